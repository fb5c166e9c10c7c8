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

// A direct index is faster. Slots of a cache line or more leave room for 12 bytes of it each, which
// with the metadata of lru are 24.
bool prefers_direct(RowId rows, Slot slots, std::size_t slot_bytes) {
  const std::size_t bytes = DirectIndex::bytes_for(rows);
  return !HashIndex::can_hold(rows, slots) || bytes <= hash_bytes(rows, slots) ||
         (slot_bytes >= kCacheLine && bytes <= slots * std::size_t{12});
}

}  // namespace

std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots, std::size_t slot_bytes) {
  if (prefers_direct(rows, slots, slot_bytes)) return std::make_unique<DirectIndex>(rows);
  if (CompactIndex::can_hold(rows, slots)) return std::make_unique<CompactIndex>(rows, slots);
  return std::make_unique<HashIndex>(rows, slots);
}

std::size_t row_index_bytes(RowId rows, Slot slots, std::size_t slot_bytes) {
  return prefers_direct(rows, slots, slot_bytes) ? DirectIndex::bytes_for(rows)
                                                 : hash_bytes(rows, slots);
}

}  // namespace tieralloc
