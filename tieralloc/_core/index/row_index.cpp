// row_index.cpp: the choice of the index.
#include "index/row_index.hpp"

#include <algorithm>

#include "index/compact_index.hpp"
#include "index/direct_index.hpp"
#include "index/hash_index.hpp"

namespace tieralloc {
namespace {

std::size_t hash_bytes(RowId rows, Slot slots) {
  return CompactIndex::can_hold(rows, slots) ? CompactIndex::bytes_for(slots)
                                             : HashIndex::bytes_for(slots);
}

bool prefers_direct(RowId rows, Slot slots, std::size_t max_direct_bytes) {
  const std::size_t bytes = DirectIndex::bytes_for(rows);
  return !HashIndex::can_hold(rows, slots) ||
         bytes <= std::max(hash_bytes(rows, slots), max_direct_bytes);
}

}  // namespace

std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots, std::size_t max_direct_bytes) {
  if (prefers_direct(rows, slots, max_direct_bytes)) return std::make_unique<DirectIndex>(rows);
  if (CompactIndex::can_hold(rows, slots)) return std::make_unique<CompactIndex>(rows, slots);
  return std::make_unique<HashIndex>(rows, slots);
}

std::size_t row_index_bytes(RowId rows, Slot slots, std::size_t max_direct_bytes) {
  return prefers_direct(rows, slots, max_direct_bytes) ? DirectIndex::bytes_for(rows)
                                                       : hash_bytes(rows, slots);
}

}  // namespace tieralloc
