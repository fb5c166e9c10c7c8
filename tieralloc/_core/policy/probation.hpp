// probation.hpp: how many prefetched rows may stay that no lookup has asked for yet.
//
// The size of the probationary segment is learned from hits, as ARC (Megiddo and Modha, FAST 2003)
// learns the sizes of its lists. A use of one of its oldest quarter says that a smaller segment
// would have missed it. A hit of one of as many rows of the lowest value says that a larger segment
// would have evicted that row before. Every call is O(1). Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class Probation {
 public:
  /// Of a tier of so many rows, at least 1.
  explicit Probation(std::uint32_t capacity)
      : min_(std::max(capacity / 64, 1u)),
        max_(std::max(capacity / 2, 1u)),
        step_(std::max(capacity / 1024, 1u)),
        target_(static_cast<float>(std::max(capacity / 16, 1u))) {}

  /// How many rows may stay.
  std::uint32_t target() const { return static_cast<std::uint32_t>(target_); }
  /// Of these, the oldest ones count as old.
  std::uint32_t old() const { return std::max(target() / 4, 1u); }

  /// None may stay, until another one comes.
  void empty() { target_ = 0; }

  void note_prefetch() { target_ = std::max(target_, min_); }

  /// An old row was used.
  void note_old_use() { set(target_ + step_); }

  /// A row was hit that was with this chance among as many rows of the lowest value.
  void note_low_hit(float chance) { set(target_ - chance * step_); }

 private:
  void set(float target) { target_ = std::clamp<float>(target, min_, max_); }

  float min_;
  float max_;
  float step_;
  float target_;
};

}  // namespace tieralloc
