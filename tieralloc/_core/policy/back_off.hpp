// back_off.hpp: how long to leave alone what did not pay.
//
// Each failure waits twice as long as the one before, up to a bound; a success starts over. So what
// never pays costs a bounded and falling share of what it would cost. Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class BackOff {
 public:
  BackOff(std::uint64_t shortest, std::uint64_t longest)
      : shortest_(shortest), longest_(longest), next_(shortest) {}

  /// How long to wait after one more failure.
  std::uint64_t fail() {
    const std::uint64_t wait = next_;
    next_ = std::min(2 * next_, longest_);
    return wait;
  }

  void succeed() { next_ = shortest_; }

 private:
  std::uint64_t shortest_;
  std::uint64_t longest_;
  std::uint64_t next_;
};

}  // namespace tieralloc
