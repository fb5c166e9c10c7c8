// ghost_buckets.hpp: a set-associative first-in first-out queue of the most recently evicted rows.
//
// A row's hash names its bucket, which holds fingerprints of 16 bits, the newest first. So a ghost
// takes two bytes. A bucket is as long as its share of the queue: where many rows of a bucket are
// evicted, they leave sooner. Rows below 65,535 have different fingerprints; of other rows two in a
// bucket have the same one once in 2,000 times. Every call is O(1). Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

class GhostBuckets {
 public:
  /// Holds about `length` rows: the buckets have one length.
  explicit GhostBuckets(std::uint32_t length)
      : buckets_(num_buckets(length)),
        ways_((length + buckets_ - 1) / buckets_),
        lanes_(buckets_ * (ways_ + 1)) {}

  static std::size_t bytes(std::uint32_t length) {
    const std::size_t buckets = num_buckets(length);
    return buckets * ((length + buckets - 1) / buckets + 1) * sizeof(Fingerprint);
  }

  std::size_t ways() const { return ways_; }
  std::size_t bucket_of(RowId row) const {
    const std::uint64_t hash = (row ^ row >> 32) * 0x9E3779B97F4A7C15u >> 32;
    return hash * buckets_ >> 32;
  }

  void push(RowId row) {
    Fingerprint* bucket = trimmed(row);
    std::memmove(bucket + 1, bucket, ways_ * sizeof(Fingerprint));
    bucket[0] = fingerprint_of(row);
  }

  /// Removes a row; false if the queue does not hold it. An insertion evicts before it takes its
  /// row: the row pushed by that eviction does not push this one out, but one lane more has room.
  bool take(RowId row) {
    Fingerprint* bucket = lanes_.data() + bucket_of(row) * (ways_ + 1);
    Fingerprint* end = bucket + ways_ + 1;
    Fingerprint* found = std::find(bucket, end, fingerprint_of(row));
    const bool is_ghost = found != end;
    if (is_ghost) {
      std::memmove(found, found + 1, static_cast<std::size_t>(end - found - 1) * sizeof *found);
      end[-1] = 0;
    }
    trimmed(row);
    return is_ghost;
  }

 private:
  using Fingerprint = std::uint16_t;  ///< 0: a free lane

  // With the lane that is free between a push and the next take, a bucket is a cache line.
  static constexpr std::size_t kMaxWays = kCacheLine / sizeof(Fingerprint) - 1;

  static std::size_t num_buckets(std::uint32_t length) {
    return (length + kMaxWays - 1) / kMaxWays;
  }

  static Fingerprint fingerprint_of(RowId row) {
    const auto folded = static_cast<Fingerprint>(row ^ row >> 16 ^ row >> 32 ^ row >> 48);
    return folded == 0 ? 0xFFFF : folded;
  }

  /// The bucket of a row, its last lane free.
  Fingerprint* trimmed(RowId row) {
    Fingerprint* bucket = lanes_.data() + bucket_of(row) * (ways_ + 1);
    bucket[ways_] = 0;
    return bucket;
  }

  std::size_t buckets_;
  std::size_t ways_;
  std::vector<Fingerprint> lanes_;
};

}  // namespace tieralloc
