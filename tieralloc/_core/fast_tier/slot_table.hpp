// slot_table.hpp: the row and the state of each slot.
//
// The word of a taken slot holds its row. The word of a free or retired slot belongs to the
// SlotAllocator.
//
// Concurrency: the owner of the tier serialises all calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

enum SlotState : std::uint8_t {
  kPinned = 1,  ///< unknown to the eviction policy
  kDirty = 2,   ///< the slow tier, which is read in place, does not have this value yet
  kStaged = 4,  ///< a dirty value of a row that is not resident, unknown to the policy
};

class SlotTable {
 public:
  static constexpr std::size_t kBytesPerSlot = sizeof(RowId) + sizeof(std::uint8_t);

  explicit SlotTable(Slot slots)
      : slots_(slots),
        words_(slots * sizeof(RowId), "fast tier's metadata"),
        states_(slots, "fast tier's metadata") {}

  Slot size() const { return slots_; }
  std::uint64_t* words() const { return words_.as<std::uint64_t>(); }

  TierRow row(Slot slot) const { return {words()[slot]}; }
  unsigned states(Slot slot) const { return states()[slot]; }
  bool has_any(Slot slot, unsigned states) const { return (this->states()[slot] & states) != 0; }
  void add(Slot slot, unsigned states) { this->states()[slot] |= states; }
  void remove(Slot slot, unsigned states) { this->states()[slot] &= ~states; }

  void reset(Slot slot) { states()[slot] = 0; }

  void assign(Slot slot, TierRow row, unsigned states) {
    words()[slot] = row.value;
    this->states()[slot] = static_cast<std::uint8_t>(states);
  }

 private:
  std::uint8_t* states() const { return states_.as<std::uint8_t>(); }

  const Slot slots_;
  Region words_;
  Region states_;
};

}  // namespace tieralloc
