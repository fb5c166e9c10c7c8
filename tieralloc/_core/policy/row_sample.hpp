// row_sample.hpp: a sample of rows by their hash, for small shadows of a tier.
//
// All accesses to a row are in the sample or none is, so that a tier of the sampled rows alone, as
// much smaller as the sample is, misses about as the whole one does (SHARDS: Waldspurger et al.,
// "Efficient MRC construction with SHARDS", FAST 2015).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/split_mix.hpp"
#include "base/types.hpp"

namespace tieralloc {

class RowSample {
 public:
  /// Of the rows of a tier of so many, at least 1, about as many as a shadow of `most` has room
  /// for.
  RowSample(std::uint64_t capacity, std::uint32_t most, std::uint64_t seed)
      : rate_(std::min(1.0, static_cast<double>(most) / static_cast<double>(capacity))),
        threshold_(rate_ < 1 ? static_cast<std::uint64_t>(std::ldexp(rate_, 64))
                             : ~std::uint64_t{0}),
        salt_(SplitMix64::mix(seed + 0x9E3779B97F4A7C15u)) {}

  bool contains(RowId row) const { return SplitMix64::mix(row ^ salt_) <= threshold_; }

  /// The share of rows that are in it.
  double rate() const { return rate_; }

 private:
  double rate_;
  std::uint64_t threshold_;
  std::uint64_t salt_;
};

}  // namespace tieralloc
