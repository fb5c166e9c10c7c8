// ghost_queue.hpp: a first-in first-out queue of the most recently evicted rows.
//
// A short queue is exact: a row takes 20 bytes, of which a small tier has few. A long one is
// set-associative, 2 bytes a row (ghost_buckets.hpp). Every call is expected O(1). Not for
// concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/types.hpp"
#include "eviction/ghost_buckets.hpp"
#include "eviction/key_queue.hpp"

namespace tieralloc {

class GhostQueue {
 public:
  static constexpr std::uint32_t kMaxExactLength = 1u << 15;

  explicit GhostQueue(std::uint32_t length) {
    if (length <= kMaxExactLength) {
      exact_.emplace(length + 1);  // one more between a push and the next take
    } else {
      buckets_.emplace(length);
    }
  }

  static std::size_t bytes(std::uint32_t length) {
    return length <= kMaxExactLength ? KeyQueue<Key>::bytes(length + 1)
                                     : GhostBuckets::bytes(length);
  }

  void push(RowId row) {
    if (buckets_) return buckets_->push(row);
    trim();
    exact_->push(key_of(row));
  }

  /// Removes a row; false if the queue does not hold it. An insertion evicts before it takes its
  /// row: the row pushed by that eviction does not push this one out.
  bool take(RowId row) {
    if (buckets_) return buckets_->take(row);
    const bool is_ghost = exact_->take(key_of(row));
    trim();
    return is_ghost;
  }

 private:
  using Key = std::uint32_t;

  /// The row's number if that is below 2^32, else a fold of it, which two rows rarely share.
  static Key key_of(RowId row) { return static_cast<Key>(row ^ row >> 32); }

  void trim() {
    if (exact_->full()) exact_->pop();
  }

  std::optional<KeyQueue<Key>> exact_;
  std::optional<GhostBuckets> buckets_;
};

}  // namespace tieralloc
