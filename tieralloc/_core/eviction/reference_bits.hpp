// reference_bits.hpp: a saturating hit counter per slot, incremented without a lock.
//
// Concurrency: `increment` and `find_saturated` may run in any number of threads beside any other
// call. An increment that races with another call may be lost, or may count for the slot's next
// row: an error of one in an estimate. A saturated counter is read and not written, so that the
// cache lines of frequently hit slots stay shared between cores.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/memory.hpp"
#include "base/types.hpp"
#include "eviction/policy.hpp"

namespace tieralloc {

class ReferenceBits {
 public:
  /// Counters saturate at `max`: 1 makes each of them the reference bit of CLOCK.
  ReferenceBits(const EvictionConfig& config, std::uint8_t max)
      : max_(max), observer_(config.observer), memory_(bytes(config.slots), "reference bits") {}

  static std::size_t bytes(std::uint32_t slots) {
    return Region::size_for(slots * sizeof(std::atomic<std::uint8_t>));
  }

  void increment(std::span<const Slot> slots) {
    for (const Slot slot : slots) __builtin_prefetch(&counter(slot), 1);
    for (const Slot slot : slots) {
      const std::uint8_t count = get(slot);
      if (count < max_) set(slot, count + 1);
    }
  }

  std::uint8_t get(Slot slot) const { return counter(slot).load(std::memory_order_relaxed); }
  void set(Slot slot, std::uint8_t count) { counter(slot).store(count, std::memory_order_relaxed); }

  /// As EvictionPolicy::find_saturated. The loop has no branch per slot, because about half of the
  /// slots may be saturated.
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const {
    std::size_t num_saturated = 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      places[num_saturated] = static_cast<std::uint32_t>(i);
      num_saturated += get(slots[i]) == max_;
    }
    return num_saturated;
  }

  void clear(Slot slot) {
    const std::uint8_t count = get(slot);
    set(slot, 0);
    notify_if_saturated(slot, count);
  }

  /// Decrements a counter; false if it is 0 already.
  bool decrement(Slot slot) {
    const std::uint8_t count = get(slot);
    if (count == 0) return false;
    set(slot, count - 1);
    notify_if_saturated(slot, count);
    return true;
  }

 private:
  /// Notifies the observer if the counter was saturated before it fell from `count`.
  void notify_if_saturated(Slot slot, std::uint8_t count) {
    if (count == max_ && observer_ != nullptr) observer_->needs_touches(slot);
  }

  std::atomic<std::uint8_t>& counter(Slot slot) const {
    return memory_.as<std::atomic<std::uint8_t>>()[slot];
  }

  std::uint8_t max_;
  SaturationObserver* observer_;
  Region memory_;  ///< huge pages if large: slots are accessed at random
};

/// An eviction policy whose access notifications only increment reference bits.
class ReferenceBitPolicy : public EvictionPolicy {
 public:
  bool touch_is_concurrent() const final { return true; }
  void touch(std::span<const Slot> slots) final { reference_bits_.increment(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const final {
    return reference_bits_.find_saturated(slots, places);
  }
  Standing standing(Slot slot) const override { return {.hits = reference_bits_.get(slot)}; }

 protected:
  ReferenceBitPolicy(const EvictionConfig& config, std::uint8_t max)
      : reference_bits_(config, max) {}

  ReferenceBits reference_bits_;
};

}  // namespace tieralloc
