// pins.hpp: the number of pinned rows of a tier, within a bound.
//
// A caller reserves pins first, so that a request pins all of its rows or none.
//
// Concurrency: the owner of the tier serialises changes; `count` may be called from any thread.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/types.hpp"

namespace tieralloc {

class Pins {
 public:
  /// `tier` describes the tier in error messages.
  Pins(Slot max_pins, std::string tier) : max_pins_(max_pins), tier_(std::move(tier)) {}

  /// Throws std::invalid_argument, changing nothing, if more than the maximum would be pinned.
  void reserve(Slot pins) {
    if (pins > max_pins_ - count()) {
      throw std::invalid_argument("pin: too many rows; expected at most " +
                                  std::to_string(max_pins_) + " pinned rows in " + tier_ +
                                  ", got " + std::to_string(pins) + " more than the " +
                                  std::to_string(count()) + " pinned already");
    }
    count_ += pins;
  }

  void release(Slot pins = 1) { count_ -= pins; }

  Slot max() const { return max_pins_; }
  const std::string& tier() const { return tier_; }
  Slot count() const { return count_.load(std::memory_order_relaxed); }

 private:
  const Slot max_pins_;
  const std::string tier_;
  std::atomic<Slot> count_{0};
};

}  // namespace tieralloc
