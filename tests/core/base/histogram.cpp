// histogram.cpp: buckets, and percentiles against sorted values.
#include "base/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.hpp"
#include "support.hpp"

namespace {

using tieralloc::Histogram;
using tieralloc::HistogramSum;

/// Around every power of two, and the ends.
std::vector<std::uint64_t> interesting_values() {
  std::vector<std::uint64_t> values;
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t power = std::uint64_t{1} << bit;
    for (std::uint64_t value :
         {power - 1, power, power + 1, power + power / 2, power + power / 16}) {
      values.push_back(value);
    }
  }
  values.push_back(~std::uint64_t{0});
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) values.push_back(random() >> (random() % 64));
  return values;
}

TEST(every_value_lies_in_its_bucket) {
  for (std::uint64_t value : interesting_values()) {
    const int bucket = Histogram::bucket_of(value);
    CHECK(bucket >= 0 && bucket < Histogram::kBuckets);
    CHECK(Histogram::floor_of(bucket) <= value);
    if (bucket + 1 < Histogram::kBuckets) CHECK(value < Histogram::floor_of(bucket + 1));
  }
}

TEST(every_bucket_begins_with_its_floor) {
  for (int bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    const std::uint64_t floor = Histogram::floor_of(bucket);
    CHECK_EQ(Histogram::bucket_of(floor), bucket);
    if (bucket > 0) CHECK_EQ(Histogram::bucket_of(floor - 1), bucket - 1);
  }
}

TEST(percentile_error_is_at_most_a_sixteenth) {
  std::mt19937_64 random(2);
  for (int shape = 0; shape < 5; ++shape) {
    Histogram first;
    Histogram second;
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 5000; ++i) {
      const auto value = static_cast<std::uint64_t>(
          std::exp(std::normal_distribution<double>(3.0 * shape, 1.5)(random)));
      values.push_back(value);
      (i % 2 == 0 ? first : second).record(value);
    }
    HistogramSum sum;
    sum.add(first);
    sum.add(second);
    std::sort(values.begin(), values.end());
    CHECK_EQ(sum.count(), values.size());
    CHECK_EQ(sum.max(), values.back());
    for (double fraction : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const double rank = std::ceil(fraction * static_cast<double>(values.size()));
      const auto exact = static_cast<double>(values[static_cast<std::size_t>(rank) - 1]);
      const auto estimate = static_cast<double>(sum.percentile(fraction));
      CHECK(std::abs(estimate - exact) <= exact / 16);
    }
  }
}

TEST(repeated_value_counts_each_time) {
  Histogram histogram;
  histogram.record(10, 99);
  histogram.record(1000);
  HistogramSum sum;
  sum.add(histogram);
  CHECK_EQ(sum.count(), 100);
  CHECK_EQ(sum.percentile(0.99), 10);
  CHECK_EQ(sum.percentile(1.0), sum.max());
}

TEST(empty_histogram_has_zero_percentiles) {
  HistogramSum sum;
  CHECK_EQ(sum.percentile(0.5), 0);
  Histogram histogram;
  histogram.record(7);
  histogram.clear();
  sum.add(histogram);
  CHECK_EQ(sum.count(), 0);
  CHECK_EQ(sum.max(), 0);
}

TEST(histogram_is_readable_during_writes) {
  Histogram histogram;
  const std::size_t records = stressed(20000);
  Threads threads;
  threads.start([&] {
    for (std::size_t i = 0; i < records; ++i) histogram.record(i);
  });
  threads.start([&] {
    std::uint64_t seen = 0;
    while (seen < records && !threads.stopped()) {
      HistogramSum sum;
      sum.add(histogram);
      CHECK(sum.count() >= seen && sum.count() <= records);
      seen = sum.count();
    }
  });
  threads.join();
}

TEST(counts_below_powers_of_two_are_exact) {
  std::mt19937_64 random(3);
  Histogram histogram;
  std::vector<std::uint64_t> values;
  std::uint64_t sum = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t value = random() >> (24 + random() % 40);
    const std::uint64_t times = 1 + random() % 3;
    histogram.record(value, times);
    values.insert(values.end(), times, value);
    sum += value * times;
  }
  HistogramSum total;
  total.add(histogram);
  CHECK_EQ(total.sum(), sum);
  const std::vector<std::uint64_t> below = total.counts_below(2, 40);
  CHECK_EQ(below.size(), 39);
  for (std::size_t i = 0; i < below.size(); ++i) {
    const std::uint64_t bound = std::uint64_t{1} << (i + 2);
    const auto expected =
        std::count_if(values.begin(), values.end(), [&](auto value) { return value < bound; });
    CHECK_EQ(below[i], static_cast<std::uint64_t>(expected));
  }
}

}  // namespace
