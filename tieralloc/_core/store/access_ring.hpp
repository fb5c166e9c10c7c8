// access_ring.hpp: a queue of the rows that one thread's lookups accessed, for a learning thread.
//
// Bounded: a call that does not fit is dropped as a whole and counted, so that each recorded call
// is complete. Serving never waits for learning.
//
// A call is a sequence of batches, each of some bags of one table: a word with the numbers of rows
// and bags, the rows, and the lengths of the bags, two per word. The lengths are left out if each
// bag has one row.
//
// Concurrency: one thread pushes, one pops, any thread reads the counters. Cost: O(1) per row.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/counters.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// The first word of a batch.
struct BatchHeader {
  static constexpr std::uint32_t kBeginsCall = 1u << 31;
  static constexpr std::uint32_t kBeginsSegment = 1u << 30;  ///< the bags of the call's next table
  static constexpr std::uint32_t kOneRowEach = 1u << 29;
  static constexpr std::uint32_t kMaxBags = kOneRowEach - 1;

  std::uint32_t rows;
  std::uint32_t bags_and_flags;

  std::uint32_t bags() const { return bags_and_flags & kMaxBags; }
  bool has(std::uint32_t flag) const { return (bags_and_flags & flag) != 0; }
  std::size_t length_words() const { return has(kOneRowEach) ? 0 : (std::size_t{bags()} + 1) / 2; }
  std::uint64_t word() const { return std::uint64_t{bags_and_flags} << 32 | rows; }
  static BatchHeader of(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
  }
};

class AccessRing {
 public:
  /// `capacity` counts words and is rounded up to a power of two.
  explicit AccessRing(std::size_t capacity)
      : mask_(std::bit_ceil(std::max<std::size_t>(capacity, 2)) - 1),
        memory_((mask_ + 1) * sizeof(std::uint64_t), "ring of accesses") {}

  /// Discards rows pushed since the last `end_call`.
  void begin_call() {
    next_ = end_.load(std::memory_order_relaxed);
    pushed_ = 0;
    next_flags_ = BatchHeader::kBeginsCall;
    full_ = false;
  }

  /// The batches that follow are of the call's next table.
  void begin_segment() { next_flags_ |= BatchHeader::kBeginsSegment; }

  /// Appends bags of these lengths. `store_shift` is the difference of a row's StoreRow and its
  /// TierRow, in wrapping arithmetic.
  void push(std::span<const TierRow> rows, std::uint64_t store_shift,
            std::span<const std::uint32_t> lengths, bool one_row_each) {
    const BatchHeader header{static_cast<std::uint32_t>(rows.size()),
                             static_cast<std::uint32_t>(lengths.size()) | next_flags_ |
                                 (one_row_each ? BatchHeader::kOneRowEach : 0)};
    pushed_ += rows.size();
    const std::size_t words = 1 + rows.size() + header.length_words();
    full_ = full_ || mask_ + 1 - (next_ - begin_.load(std::memory_order_acquire)) < words;
    if (full_) return;
    next_flags_ = 0;
    put(header.word());
    const std::size_t at = next_ & mask_;
    const std::size_t before_wrap = std::min<std::size_t>(rows.size(), mask_ + 1 - at);
    copy(rows.first(before_wrap), store_shift, memory_.as<RowId>() + at);
    copy(rows.subspan(before_wrap), store_shift, memory_.as<RowId>());
    next_ += rows.size();
    for (std::size_t i = 0; i < 2 * header.length_words(); i += 2) {
      put(lengths[i] | (i + 1 < lengths.size() ? std::uint64_t{lengths[i + 1]} << 32 : 0));
    }
  }

  /// Publishes the call, or counts it as dropped.
  void end_call() {
    if (full_) {
      dropped_.add(pushed_);
    } else {
      end_.store(next_, std::memory_order_release);
    }
  }

  /// Moves all published calls, in order, to the end of `words`.
  void pop(std::vector<std::uint64_t>& words) {
    const std::uint64_t end = end_.load(std::memory_order_acquire);
    const std::uint64_t begin = begin_.load(std::memory_order_relaxed);
    const auto* ring = memory_.as<std::uint64_t>();
    const std::size_t at = begin & mask_;
    const std::size_t before_wrap = std::min<std::size_t>(end - begin, mask_ + 1 - at);
    words.insert(words.end(), ring + at, ring + at + before_wrap);
    words.insert(words.end(), ring, ring + (end - begin - before_wrap));
    begin_.store(end, std::memory_order_release);
  }

  std::uint64_t dropped() const { return dropped_.get(); }
  std::size_t bytes() const { return memory_.size(); }

 private:
  void put(std::uint64_t word) { memory_.as<std::uint64_t>()[next_++ & mask_] = word; }

  static void copy(std::span<const TierRow> rows, std::uint64_t store_shift, RowId* to) {
    for (std::size_t i = 0; i < rows.size(); ++i) to[i] = rows[i].value + store_shift;
  }

  const std::size_t mask_;
  Region memory_;
  Count dropped_;
  // Of the pushing thread: the call in progress.
  std::uint64_t next_ = 0;
  std::uint64_t pushed_ = 0;
  std::uint32_t next_flags_ = 0;
  bool full_ = false;
  // Positions only grow. Each has a cache line of its own, because each has another writer.
  alignas(kCacheLine) std::atomic<std::uint64_t> begin_{0};
  alignas(kCacheLine) std::atomic<std::uint64_t> end_{0};
};

}  // namespace tieralloc
