// back_off.hpp: exponential back-off of an attempt that fails.
//
//   failure: wait; the next wait is twice as long, up to a maximum
//   success: the next wait is the minimum again
// A probe that always fails thus takes a bounded and decreasing share of the time. Not for
// concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class BackOff {
 public:
  BackOff(std::uint64_t min_wait, std::uint64_t max_wait)
      : min_wait_(min_wait), max_wait_(max_wait), next_wait_(min_wait) {}

  /// Returns the wait after a failure.
  std::uint64_t fail() {
    const std::uint64_t wait = next_wait_;
    next_wait_ = std::min(2 * next_wait_, max_wait_);
    return wait;
  }

  void succeed() { next_wait_ = min_wait_; }

 private:
  std::uint64_t min_wait_;
  std::uint64_t max_wait_;
  std::uint64_t next_wait_;
};

}  // namespace tieralloc
