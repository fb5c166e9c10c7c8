// curve.hpp: how much a row deserves its slot, as a function of the time since it was evaluated.
//
// The network gives, once per evaluation, the hazards of the row's next use: the chance of a use
// within each interval of the time to come, given none before. From these follows F(t), the chance
// of a use within t. After d accesses without one the row is worth
//     sum over horizons h of weight(h) * (F(d + h) - F(d)) / (1 - F(d)),
// the weighted chance of a use within each horizon that counts. A curve holds the logarithm of that
// at d = 0 and at some powers of two; a value between two of them is interpolated. So ageing is a
// look-up, without the network.
//
// Concurrency: immutable after construction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "policy/fast_log.hpp"

namespace tieralloc {

/// Points of a curve: 0, then powers of two.
inline constexpr std::size_t kCurvePoints = 12;

/// Codes are logarithms: kCodesPerOctave for each factor of two, 0 for 2^kLowestValue and below.
inline constexpr float kLowestValue = -24;
inline constexpr std::uint32_t kCodesPerOctave = 10;

/// A code with 8 bits behind the point.
using Value = std::uint32_t;
inline constexpr Value kValuesPerOctave = kCodesPerOctave << 8;
inline constexpr Value kMaxValue = 0xFFFF;

struct Curve {
  std::uint32_t at = 0;  ///< access as of which the row was evaluated
  std::array<std::uint8_t, kCurvePoints> codes{};
};
static_assert(sizeof(Curve) == 16);

/// What a use within each horizon is worth: the weights add up to 1.
struct Horizons {
  std::vector<std::uint32_t> accesses;  ///< ascending
  std::vector<float> weights;
};

/// Weights for a tier in which LRU keeps a row for `eviction_age` accesses. A use far within that
/// age is a hit whatever is evicted, one far beyond it is none: those near a sixth of it count.
Horizons weigh_horizons(std::span<const std::uint32_t> accesses, double eviction_age);

/// Interpolates measured (capacity, eviction age) pairs, ascending, to a capacity.
double eviction_age(std::span<const std::pair<std::uint32_t, double>> ages, double capacity);

class CurveMap {
 public:
  /// `intervals` are the upper ends of the network's intervals, ascending; the first begins at 0.
  CurveMap(std::span<const std::uint32_t> intervals, const Horizons& horizons, double eviction_age);

  /// Makes the curve of a row with these hazards, one per interval, evaluated at access `at`.
  Curve make(const float* hazards, std::uint32_t at) const;

  /// The row's value at access `now`, not before `curve.at` in wrapping arithmetic.
  Value value(const Curve& curve, std::uint32_t now) const;

  /// The weighted outcome of a use after so many accesses: what a value predicts.
  float outcome(std::uint32_t accesses) const;

  /// Accesses after which a use is worth next to nothing.
  std::uint32_t longest() const { return longest_; }

 private:
  static constexpr std::size_t kMaxKnots = 40;
  using Points = std::array<Floats4, kCurvePoints / 4>;

  std::size_t given_;  ///< intervals of the network; knots beyond have the last one's hazard
  std::size_t knots_;
  std::uint32_t shift_;  ///< the first point after 0 is at 2^(shift + 1)
  Horizons horizons_;
  std::uint32_t longest_ = 0;
  std::array<Points, kMaxKnots> gained_;  ///< by knot: what F there adds to each numerator
  std::array<Points, kMaxKnots> lost_;    ///< and to each survival
};

}  // namespace tieralloc
