// curve.hpp: the value of a resident row as a function of the time since its evaluation.
//
// The network computes hazards: for each interval of future accesses the chance of the row's next
// use in it, given none before. They determine F(t), the chance of a use within t accesses:
//     F(end of interval k) = 1 - (1 - hazard 1) * ... * (1 - hazard k)
// interpolated linearly up to the first end, then in log t.
// After d accesses without a use, the value is the weighted chance of a use within each horizon:
//     value(d) = sum over horizons h of weight(h) * (F(d + h) - F(d)) / (1 - F(d))
// A curve stores the logarithm of value(d) at d = 0 and at powers of two; values between these
// points are interpolated. Rows thus age without the network.
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

/// A code with 8 fractional bits.
using Value = std::uint32_t;
inline constexpr Value kValuesPerOctave = kCodesPerOctave << 8;
inline constexpr Value kMaxValue = 0xFFFF;

struct Curve {
  std::uint32_t at = 0;  ///< last access before the evaluation
  std::array<std::uint8_t, kCurvePoints> codes{};
};
static_assert(sizeof(Curve) == 16);

/// Weights of a use within each horizon; they add up to 1.
struct Horizons {
  std::vector<std::uint32_t> accesses;  ///< ascending
  std::vector<float> weights;
};

/// Weights the horizons for a tier in which LRU keeps a row for `eviction_age` accesses. A use much
/// earlier is a hit under any policy, a much later one a miss: horizons near a sixth of it count.
Horizons make_horizons(std::span<const std::uint32_t> accesses, double eviction_age);

/// Interpolates measured (capacity, eviction age) pairs, ascending, to a capacity.
double eviction_age(std::span<const std::pair<std::uint32_t, double>> ages, double capacity);

class CurveMap {
 public:
  /// `intervals` are the upper ends of the network's intervals, ascending; the first one starts at
  /// 0. Throws std::invalid_argument for none or too many.
  CurveMap(std::span<const std::uint32_t> intervals, const Horizons& horizons, double eviction_age);

  /// Makes the curve of a row with these hazards, one per interval, evaluated at access `at`.
  Curve make(const float* hazards, std::uint32_t at) const;

  /// The row's value at access `now`, at or after `curve.at` in wrapping arithmetic.
  Value value(const Curve& curve, std::uint32_t now) const;

  /// The value of a use after `accesses` accesses, in hindsight: the weight of the horizons it is
  /// within. A value predicts its mean.
  float outcome(std::uint32_t accesses) const;

  /// Accesses after which a use has almost no value.
  std::uint32_t max_horizon() const { return max_horizon_; }

 private:
  static constexpr std::size_t kMaxKnots = 40;
  using Points = std::array<Floats4, kCurvePoints / 4>;

  void fill_point(std::span<const double> knots, std::size_t point);

  std::size_t num_intervals_;  ///< of the network; later knots have the last interval's hazard
  std::size_t num_knots_;
  std::uint32_t shift_;  ///< the first point after 0 is at 2^(shift + 1)
  Horizons horizons_;
  std::uint32_t max_horizon_ = 0;
  std::array<Points, kMaxKnots> gain_of_;  ///< by knot: factor of F in the numerator of value(d)
  std::array<Points, kMaxKnots> survival_of_;  ///< by knot: factor of F in 1 - F(d)
};

}  // namespace tieralloc
