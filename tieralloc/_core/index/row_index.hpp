// row_index.hpp: from a row to the slot of its resident copy.
//
// Concurrency: `find`, `set_flag` and `clear_flag` run in any number of threads beside one writer;
// the owner serialises `put` and `erase`. A reader may miss a row that is being put at that moment,
// and asks again under the owner's lock; it never gets a slot of another row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/limits.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// What the index says of a row: 0 where it is not resident, else its slot and two flags. They live
/// here because a lookup reads the entry anyway.
using Entry = std::uint32_t;
inline constexpr Entry kAbsent = 0;
/// Prefetched, and not used yet.
inline constexpr Entry kPrefetchedFlag = 0x80000000u;
/// Hit so often that its policy needs to hear of no more hits (EvictionPolicy::is_saturated).
inline constexpr Entry kSaturatedFlag = 0x40000000u;
inline constexpr Entry kEntryFlags = kPrefetchedFlag | kSaturatedFlag;
static_assert(kMaxSlots == kSaturatedFlag - 2);

constexpr Entry make_entry(Slot slot, bool prefetched) {
  return (slot + 1) | (prefetched ? kPrefetchedFlag : 0);
}
constexpr Slot slot_of(Entry entry) {
  return (entry & ~kEntryFlags) - 1;
}
constexpr bool is_prefetched(Entry entry) {
  return (entry & kPrefetchedFlag) != 0;
}
constexpr bool is_saturated(Entry entry) {
  return (entry & kSaturatedFlag) != 0;
}

class RowIndex {
 public:
  virtual ~RowIndex() = default;

  /// Asks for the memory that finding these rows will read.
  virtual void prefetch(std::span<const RowId> rows) const = 0;
  virtual void find(std::span<const RowId> rows, Entry* entries) const = 0;
  virtual Entry find(RowId row) const = 0;

  /// Sets or replaces a row's entry.
  virtual void put(RowId row, Entry entry) = 0;
  /// Returns what the index said of the row.
  virtual Entry erase(RowId row) = 0;

  /// Clears a flag; true for the one caller that did.
  virtual bool clear_flag(RowId row, Entry flag) = 0;

  /// Sets a flag, if what the index says of the row is still `seen`.
  virtual void set_flag(RowId row, Entry seen, Entry flag) = 0;

  virtual std::size_t bytes() const = 0;
  virtual const char* kind() const = 0;
};

/// The smaller of a direct index (4 bytes a row) and a hashed one (at most 16 bytes a slot).
std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots);

/// Bytes that make_row_index would take.
std::size_t row_index_bytes(RowId rows, Slot slots);

}  // namespace tieralloc
