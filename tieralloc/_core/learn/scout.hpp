// scout.hpp: when to find out whether something pays that is not done at present.
//
// Finding out has its price. One looks for a window of accesses; where it is not done by its end,
// not for some windows, and each time for twice as many, up to a most: something that never pays
// takes a ninth of what it would take, and later less. It may be begun and given up again within a
// window, which counts for nothing. Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class Scout {
 public:
  explicit Scout(std::uint64_t window) : window_(window), left_(window) {}

  /// Whether one looks.
  bool is_out() const { return is_out_; }

  /// An access has gone by; it is done at present, as it was seen to pay, or not. While it is done
  /// one looks.
  void note(bool is_done) {
    if (--left_ > 0) return;
    is_out_ = is_done || !is_out_;
    left_ = is_out_ ? window_ : window_ * rest_;
    if (is_done) {
      rest_ = kShortestRest;
    } else if (!is_out_) {
      rest_ = std::min(2 * rest_, kLongestRest);
    }
  }

 private:
  static constexpr std::uint64_t kShortestRest = 8;  // windows
  static constexpr std::uint64_t kLongestRest = 64;

  std::uint64_t window_;
  std::uint64_t left_;  ///< accesses until it turns
  std::uint64_t rest_ = kShortestRest;
  bool is_out_ = true;
};

}  // namespace tieralloc
