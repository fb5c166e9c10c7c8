// probation.hpp: how many prefetched rows may stay that no lookup has asked for yet.
//
// The size of the probationary segment is learned from outcomes, as ARC (Megiddo and Modha, FAST
// 2003) learns the sizes of its lists. A use of one of its oldest quarter says that a smaller
// segment would have missed it. A miss of a row that was evicted for want of about as many slots
// says that a smaller one would have kept that row. A miss of any row that would still be resident
// without the segment is a displaced hit: what prefetching costs. Bounded, all memory taken at
// construction, each call expected O(1). Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../eviction/key_queue.hpp"
#include "../types.hpp"

namespace tieralloc {

class Probation {
 public:
  /// Of a tier of so many rows, at least 1.
  explicit Probation(std::uint32_t capacity)
      : min_(std::max(capacity / 64, 1u)),
        max_(std::max(capacity / 2, 1u)),
        step_(std::max(capacity / 1024, 1u)),
        target_(std::max(capacity / 16, 1u)),
        evicted_(quarter(max_)),
        older_(max_) {}

  static std::size_t bytes(std::uint32_t capacity) {
    const std::uint32_t max = std::max(capacity / 2, 1u);
    return sizeof(Probation) + KeyQueue<RowId>::bytes(quarter(max)) + KeyQueue<RowId>::bytes(max);
  }

  /// How many rows may stay; of these, the oldest quarter counts as old.
  std::uint32_t target() const { return target_; }
  std::uint32_t young_target() const { return target_ - quarter(target_); }

  /// As few as possible may stay, until late uses let more.
  void shrink() { target_ = min_; }

  /// A prefetched row was used; true where that saved a fetch: without prefetching the row would
  /// not have been resident.
  bool note_use(RowId row, bool is_old) {
    if (evicted_.take(row) || older_.take(row)) return false;
    if (is_old) target_ = std::min(target_ + step_, max_);
    return true;
  }

  /// A row that a lookup had asked for was evicted, while `size` rows were in the segment.
  void note_eviction(RowId row, std::uint32_t size) {
    while (evicted_.size() >= quarter(target_)) {
      if (older_.full()) older_.pop();
      older_.push(evicted_.pop());
    }
    while (!older_.empty() && evicted_.size() + older_.size() >= size) older_.pop();
    evicted_.push(row);
  }

  /// A miss; true for a displaced hit.
  bool note_miss(RowId row) {
    if (!evicted_.take(row)) return older_.take(row);
    target_ = std::max(target_ - std::min(step_, target_), min_);
    return true;
  }

 private:
  static constexpr std::uint32_t quarter(std::uint32_t rows) { return std::max(rows / 4, 1u); }

  std::uint32_t min_;
  std::uint32_t max_;
  std::uint32_t step_;
  std::uint32_t target_;
  KeyQueue<RowId> evicted_;  ///< the last ones, as many as an old quarter
  KeyQueue<RowId> older_;    ///< those before, as many as the segment holds more
};

}  // namespace tieralloc
