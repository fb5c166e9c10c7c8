// marks.hpp: a small saturating counter a slot, that hits raise without a lock.
//
// `raise` may run in any number of threads beside any other call. A raise that races with another,
// or with the slot changing its row, may be lost or land on the new row: an error of one in an
// estimate. A slot at its maximum is read and not written, so rows that are hit all the time keep
// their cache line shared.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/memory.hpp"
#include "base/types.hpp"
#include "eviction/policy.hpp"

namespace tieralloc {

class Marks {
 public:
  Marks(const EvictionConfig& config, std::uint8_t maximum)
      : maximum_(maximum), observer_(config.observer), memory_(bytes(config.slots), "marks") {}

  static std::size_t bytes(std::uint32_t slots) {
    return Region::size_for(slots * sizeof(std::atomic<std::uint8_t>));
  }

  void raise(std::span<const Slot> slots) {
    for (const Slot slot : slots) __builtin_prefetch(&mark_of(slot), 1);
    for (const Slot slot : slots) {
      const std::uint8_t mark = get(slot);
      if (mark < maximum_) set(slot, mark + 1);
    }
  }

  std::uint8_t get(Slot slot) const { return mark_of(slot).load(std::memory_order_relaxed); }
  void set(Slot slot, std::uint8_t mark) { mark_of(slot).store(mark, std::memory_order_relaxed); }

  /// As EvictionPolicy::find_saturated. Without a branch a slot: half of them may be.
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    std::size_t found = 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      places[found] = static_cast<std::uint32_t>(i);
      found += get(slots[i]) == maximum_;
    }
    return found;
  }

  void clear(Slot slot) {
    const std::uint8_t mark = get(slot);
    set(slot, 0);
    tell_of_fall(slot, mark);
  }

  /// Lowers a mark by one; false where it is 0 already.
  bool lower(Slot slot) {
    const std::uint8_t mark = get(slot);
    if (mark == 0) return false;
    set(slot, mark - 1);
    tell_of_fall(slot, mark);
    return true;
  }

 private:
  void tell_of_fall(Slot slot, std::uint8_t from) {
    if (from == maximum_ && observer_ != nullptr) observer_->needs_touches(slot);
  }

  std::atomic<std::uint8_t>& mark_of(Slot slot) const {
    return memory_.as<std::atomic<std::uint8_t>>()[slot];
  }

  std::uint8_t maximum_;
  SaturationObserver* observer_;
  Region memory_;  ///< on huge pages where many slots are marked at random
};

}  // namespace tieralloc
