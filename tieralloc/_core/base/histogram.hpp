// histogram.hpp: log-linear latency histograms.
//
// Each power of two has 16 buckets of equal width, so a percentile has a relative error of at most
// 1/16. One thread at a time records, any number of threads read. Cost: O(1) per record, without a
// locked instruction.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

namespace tieralloc {

class Histogram {
 public:
  static constexpr int kStepBits = 4;
  static constexpr int kSteps = 1 << kStepBits;
  static constexpr int kBuckets = (64 - kStepBits + 1) * kSteps;

  static constexpr int bucket_of(std::uint64_t value) {
    if (value < kSteps) return static_cast<int>(value);
    const int shift = std::bit_width(value) - 1 - kStepBits;
    return (shift + 1) * kSteps + static_cast<int>((value >> shift) - kSteps);
  }

  /// The smallest value of a bucket.
  static constexpr std::uint64_t floor_of(int bucket) {
    if (bucket < kSteps) return static_cast<std::uint64_t>(bucket);
    const int shift = bucket / kSteps - 1;
    return static_cast<std::uint64_t>(kSteps + bucket % kSteps) << shift;
  }

  void record(std::uint64_t value, std::uint64_t times = 1) {
    bump(counts_[bucket_of(value)], times);
    bump(sum_, value * times);
    if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
  }

  void add_to(std::array<std::uint64_t, kBuckets>& counts, std::uint64_t& sum,
              std::uint64_t& max) const {
    for (int i = 0; i < kBuckets; ++i) counts[i] += counts_[i].load(std::memory_order_relaxed);
    sum += sum_.load(std::memory_order_relaxed);
    const std::uint64_t own = max_.load(std::memory_order_relaxed);
    if (own > max) max = own;
  }

  void clear() {
    for (auto& count : counts_) count.store(0, std::memory_order_relaxed);
    sum_.store(0, std::memory_order_relaxed);
    max_.store(0, std::memory_order_relaxed);
  }

 private:
  // One writer: a load and a store suffice.
  static void bump(std::atomic<std::uint64_t>& count, std::uint64_t times) {
    count.store(count.load(std::memory_order_relaxed) + times, std::memory_order_relaxed);
  }

  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_{0};
  std::atomic<std::uint64_t> max_{0};
};

/// The sum of several threads' histograms.
class HistogramSum {
 public:
  void add(const Histogram& histogram) { histogram.add_to(counts_, sum_, max_); }

  std::uint64_t count() const {
    std::uint64_t total = 0;
    for (std::uint64_t count : counts_) total += count;
    return total;
  }

  std::uint64_t sum() const { return sum_; }
  std::uint64_t max() const { return max_; }

  /// The number of values below 2^bits, for each number of bits from `first` to `last`.
  std::vector<std::uint64_t> counts_below(int first, int last) const {
    std::vector<std::uint64_t> below;
    std::uint64_t seen = 0;
    int bucket = 0;
    for (int bits = first; bits <= last; ++bits) {
      const int end = Histogram::bucket_of(std::uint64_t{1} << bits);
      for (; bucket < end; ++bucket) seen += counts_[bucket];
      below.push_back(seen);
    }
    return below;
  }

  /// The value below which `fraction` of the recorded values lie (the middle of its bucket); 0 if
  /// there are none.
  std::uint64_t percentile(double fraction) const {
    const std::uint64_t total = count();
    if (total == 0) return 0;
    const double rank = fraction * static_cast<double>(total);
    std::uint64_t seen = 0;
    for (int i = 0; i < Histogram::kBuckets; ++i) {
      seen += counts_[i];
      if (counts_[i] != 0 && static_cast<double>(seen) >= rank) return middle_of(i);
    }
    return max_;
  }

  const std::array<std::uint64_t, Histogram::kBuckets>& counts() const { return counts_; }

 private:
  std::uint64_t middle_of(int bucket) const {
    const std::uint64_t low = Histogram::floor_of(bucket);
    const std::uint64_t high =
        bucket + 1 < Histogram::kBuckets ? Histogram::floor_of(bucket + 1) : low;
    const std::uint64_t middle = low + (high - low) / 2;
    return middle < max_ ? middle : max_;
  }

  std::array<std::uint64_t, Histogram::kBuckets> counts_{};
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace tieralloc
