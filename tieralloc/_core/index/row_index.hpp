// row_index.hpp: maps a row to the slot of its copy.
//
// Concurrency: `find`, `set_flag` and `clear_flag` run in any number of threads beside one writer;
// the owner serialises `put` and `erase`. A reader may miss a row that is being put at that moment:
// it searches again under the owner's lock. A reader never gets the slot of another row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/limits.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// 0 if the row is not resident, else slot + 1 and two flags. The flags are here because a lookup
/// reads the entry anyway.
using Entry = std::uint32_t;
inline constexpr Entry kAbsent = 0;
/// Prefetched and not used yet.
inline constexpr Entry kPrefetchedFlag = 0x80000000u;
/// Further hits do not change the state of the eviction policy (EvictionPolicy::find_saturated).
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

  /// Prefetches the memory that `find` of these rows reads.
  virtual void prefetch(std::span<const RowId> rows) const = 0;
  virtual void find(std::span<const RowId> rows, Entry* entries) const = 0;
  virtual Entry find(RowId row) const = 0;

  /// Sets or replaces a row's entry.
  virtual void put(RowId row, Entry entry) = 0;
  /// Returns the row's former entry.
  virtual Entry erase(RowId row) = 0;

  /// Clears a flag. True for the one caller that changed it.
  virtual bool clear_flag(RowId row, Entry flag) = 0;

  /// Sets a flag if the row's entry is still `seen`.
  virtual void set_flag(RowId row, Entry seen, Entry flag) = 0;

  virtual std::size_t bytes() const = 0;
  virtual const char* kind() const = 0;
};

/// The smaller of a direct index (4 bytes per row) and a hash (5.9 bytes per slot, or 11.9 if the
/// tables have more than some 2^25 rows). A direct index, which is faster, also if it takes at most
/// `max_direct_bytes`.
std::unique_ptr<RowIndex> make_row_index(RowId rows, Slot slots, std::size_t max_direct_bytes = 0);

/// Bytes of make_row_index.
std::size_t row_index_bytes(RowId rows, Slot slots, std::size_t max_direct_bytes = 0);

}  // namespace tieralloc
