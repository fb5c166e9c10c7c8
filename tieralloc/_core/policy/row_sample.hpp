// row_sample.hpp: samples rows by their hash, for miniature simulations (SHARDS: Waldspurger et
// al., "Efficient MRC construction with SHARDS", FAST 2015).
//
//   a row is in the sample if hash(row) <= rate * 2^64
// All accesses to a row are sampled, or none. A tier of the sampled rows, scaled down by the rate,
// therefore has about the miss ratio of the whole tier.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/split_mix.hpp"
#include "base/types.hpp"

namespace tieralloc {

class RowSample {
 public:
  /// Samples at the rate max_rows ÷ capacity, at most 1: for a miniature of `max_rows` rows of a
  /// tier of `capacity` rows, at least 1.
  RowSample(std::uint64_t capacity, std::uint32_t max_rows, std::uint64_t seed)
      : rate_(std::min(1.0, static_cast<double>(max_rows) / static_cast<double>(capacity))),
        threshold_(rate_ < 1 ? static_cast<std::uint64_t>(std::ldexp(rate_, 64))
                             : ~std::uint64_t{0}),
        salt_(SplitMix64::mix(seed + 0x9E3779B97F4A7C15u)) {}

  bool contains(RowId row) const { return SplitMix64::mix(row ^ salt_) <= threshold_; }

  /// Share of the rows in the sample.
  double rate() const { return rate_; }

 private:
  double rate_;
  std::uint64_t threshold_;
  std::uint64_t salt_;
};

}  // namespace tieralloc
