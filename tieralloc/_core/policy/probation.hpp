// probation.hpp: adapts the size of the probationary segment of prefetched rows to hits.
//
//   a prefetched row in the oldest quarter of the segment is used:
//     target += step       (a smaller segment would have missed it)
//   a row among as many rows of the lowest value is hit:
//     target -= step * p   (a larger segment would have evicted it, with probability p)
// After the adaptation of list sizes in ARC (Megiddo and Modha, FAST 2003). Every call is O(1). Not
// for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tieralloc {

class Probation {
 public:
  /// For a tier of `capacity` rows, at least 1.
  explicit Probation(std::uint32_t capacity)
      : min_(std::max(capacity / 64, 1u)),
        max_(std::max(capacity / 2, 1u)),
        step_(std::max(capacity / 1024, 1u)),
        target_(static_cast<float>(std::max(capacity / 16, 1u))) {}

  /// Target size of the segment, in rows.
  std::uint32_t target() const { return static_cast<std::uint32_t>(target_); }
  /// Number of rows, the oldest ones, in the old part of the segment.
  std::uint32_t num_old() const { return std::max(target() / 4, 1u); }

  /// Sets the target to 0, until the next prefetch.
  void drain() { target_ = 0; }

  void record_prefetch() { target_ = std::max(target_, min_); }

  /// Records a use of an old row.
  void record_old_use() { adapt(step_); }

  /// Records a hit of a row that is, with this probability, among the `num_old()` rows of the
  /// lowest value.
  void record_low_hit(float probability) { adapt(-probability * step_); }

 private:
  void adapt(float change) { target_ = std::clamp<float>(target_ + change, min_, max_); }

  float min_;
  float max_;
  float step_;
  float target_;
};

}  // namespace tieralloc
