// slot_table.hpp: one word per slot: the row and the state of a taken slot, the successor of a free
// or retired one.
//
// A word has 32 bits, or 64 bits in a tier of 2^29 rows or more.
//
// Concurrency: the owner of the tier serialises all calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

enum SlotState : unsigned {
  kPinned = 1,  ///< unknown to the eviction policy
  kDirty = 2,   ///< the slow tier, which is read in place, does not have this value yet
  kStaged = 4,  ///< a dirty value of a row that is not resident, unknown to the policy
};

class SlotTable {
 public:
  static constexpr std::size_t bytes_per_slot(RowId rows) { return is_wide(rows) ? 8 : 4; }

  SlotTable(Slot slots, RowId rows)
      : slots_(slots),
        is_wide_(is_wide(rows)),
        state_shift_(is_wide_ ? 64 - kStateBits : 32 - kStateBits),
        words_(slots * bytes_per_slot(rows), "fast tier's metadata") {}

  Slot size() const { return slots_; }

  TierRow row(Slot slot) const { return {word(slot) & ~(Word{kStates} << state_shift_)}; }
  unsigned states(Slot slot) const { return static_cast<unsigned>(word(slot) >> state_shift_); }
  bool has_any(Slot slot, unsigned states) const { return (this->states(slot) & states) != 0; }
  void add(Slot slot, unsigned states) { set(slot, word(slot) | Word{states} << state_shift_); }
  void remove(Slot slot, unsigned states) {
    set(slot, word(slot) & ~(Word{states} << state_shift_));
  }
  void assign(Slot slot, TierRow row, unsigned states) {
    set(slot, row.value | Word{states} << state_shift_);
  }

  /// Of a slot that is not taken; kNoSlot: it is the last one.
  Slot next(Slot slot) const { return static_cast<Slot>(word(slot)); }
  void set_next(Slot slot, Slot next) { set(slot, next); }

 private:
  using Word = std::uint64_t;
  static constexpr unsigned kStateBits = 3;
  static constexpr unsigned kStates = (1u << kStateBits) - 1;

  static constexpr bool is_wide(RowId rows) { return rows > RowId{1} << (32 - kStateBits); }

  Word word(Slot slot) const {
    return is_wide_ ? words_.as<std::uint64_t>()[slot] : words_.as<std::uint32_t>()[slot];
  }
  void set(Slot slot, Word word) {
    if (is_wide_) {
      words_.as<std::uint64_t>()[slot] = word;
    } else {
      words_.as<std::uint32_t>()[slot] = static_cast<std::uint32_t>(word);
    }
  }

  const Slot slots_;
  const bool is_wide_;
  const unsigned state_shift_;
  Region words_;
};

}  // namespace tieralloc
