// row_index.cpp: the choice between the direct and the hash index.
#include "index/row_index.hpp"

#include "index/direct_index.hpp"
#include "index/hash_index.hpp"

namespace tieralloc {
namespace {

bool prefers_direct(RowId rows, Slot slots) {
  return !HashIndex::can_hold(rows, slots) ||
         DirectIndex::bytes_for(rows) <= HashIndex::bytes_for(slots);
}

}  // namespace

std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots) {
  if (prefers_direct(rows, slots)) return std::make_unique<DirectIndex>(rows);
  return std::make_unique<HashIndex>(rows, slots);
}

std::size_t row_index_bytes(RowId rows, Slot slots) {
  return prefers_direct(rows, slots) ? DirectIndex::bytes_for(rows) : HashIndex::bytes_for(slots);
}

}  // namespace tieralloc
