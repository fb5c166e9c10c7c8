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
#include <vector>

#include "../types.hpp"
#include "policy.hpp"

namespace tieralloc {

class Marks {
 public:
  Marks(const EvictionConfig& config, std::uint8_t maximum)
      : maximum_(maximum), observer_(config.observer), marks_(config.slots) {}

  static std::size_t bytes(std::uint32_t slots) {
    return slots * sizeof(std::atomic<std::uint8_t>);
  }

  void raise(std::span<const Slot> slots) {
    for (const Slot slot : slots) {
      const std::uint8_t mark = get(slot);
      if (mark < maximum_) set(slot, mark + 1);
    }
  }

  std::uint8_t get(Slot slot) const { return marks_[slot].load(std::memory_order_relaxed); }
  void set(Slot slot, std::uint8_t mark) { marks_[slot].store(mark, std::memory_order_relaxed); }
  bool is_saturated(Slot slot) const { return get(slot) == maximum_; }

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

  std::uint8_t maximum_;
  SaturationObserver* observer_;
  std::vector<std::atomic<std::uint8_t>> marks_;
};

}  // namespace tieralloc
