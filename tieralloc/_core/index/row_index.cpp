// row_index.cpp: the choice of the index.
#include "index/row_index.hpp"

#include "index/compact_index.hpp"
#include "index/direct_index.hpp"
#include "index/hash_index.hpp"

namespace tieralloc {
namespace {

std::size_t hash_bytes(RowId rows, Slot slots) {
  return CompactIndex::can_hold(rows, slots) ? CompactIndex::bytes_for(slots)
                                             : HashIndex::bytes_for(slots);
}

bool prefers_direct(RowId rows, Slot slots) {
  return !HashIndex::can_hold(rows, slots) ||
         DirectIndex::bytes_for(rows) <= hash_bytes(rows, slots);
}

}  // namespace

std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots) {
  if (prefers_direct(rows, slots)) return std::make_unique<DirectIndex>(rows);
  if (CompactIndex::can_hold(rows, slots)) return std::make_unique<CompactIndex>(rows, slots);
  return std::make_unique<HashIndex>(rows, slots);
}

std::size_t row_index_bytes(RowId rows, Slot slots) {
  return prefers_direct(rows, slots) ? DirectIndex::bytes_for(rows) : hash_bytes(rows, slots);
}

}  // namespace tieralloc
