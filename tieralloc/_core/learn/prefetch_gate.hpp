// prefetch_gate.hpp: whether prefetching misses less than its like without would.
//
// It is told of accesses whether they were missed, and whether they would have been without any
// prefetching. While it is open, what is missed more is added up and what is missed less taken off,
// never below nothing (a cumulative sum: Page, "Continuous inspection schemes", Biometrika 1954):
// once it costs kPatience misses, the gate closes for a while. Each time that it has to close again
// before it has saved several times as many, which chance alone rarely does, it stays closed for
// twice as long, so that harm comes to little in all, and a workload that changes is noticed. Not
// for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class PrefetchGate {
 public:
  bool is_open() const { return closed_for_ == 0; }

  /// Takes note of an access; returns whether the gate is open from then on.
  bool note(bool missed, bool missed_without) {
    if (!is_open()) return --closed_for_ == 0;
    const int more = static_cast<int>(missed) - static_cast<int>(missed_without);
    cost_ = std::max(cost_ + more, 0);
    saved_ = std::min(saved_ - more, kProof);
    if (saved_ >= kProof) pause_ = kShortest;
    if (cost_ < kPatience) return true;
    closed_for_ = pause_;
    pause_ = std::min(2 * pause_, kLongest);
    cost_ = saved_ = 0;
    ++closings_;
    return false;
  }

  /// How often it closed.
  std::uint64_t closings() const { return closings_; }

 private:
  static constexpr int kPatience = 32;
  static constexpr int kProof = 4 * kPatience;
  static constexpr std::uint64_t kShortest = 1 << 13;  // accesses
  static constexpr std::uint64_t kLongest = 1 << 20;

  int cost_ = 0;
  int saved_ = 0;  ///< misses since it opened, up to kProof; below 0 where there were more
  std::uint64_t closed_for_ = 0;  ///< so many more accesses
  std::uint64_t pause_ = kShortest;
  std::uint64_t closings_ = 0;
};

}  // namespace tieralloc
