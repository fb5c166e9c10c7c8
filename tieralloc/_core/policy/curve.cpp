// curve.cpp: precomputes the curve map, and evaluates curves.
#include "policy/curve.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>

namespace tieralloc {
namespace {

constexpr double kCentre = 1.0 / 6;       // of the horizon weights, in eviction ages
constexpr double kSpread = 1.2;           // standard deviation of the weights, in horizons
constexpr std::size_t kExtrapolated = 4;  // knots after the last interval, at twice the distance
constexpr float kMinSurvival = 1e-3f;
constexpr float kMinGain = 1e-7f;
constexpr double kCountedWeight = 0.97;  // min weight of the horizons up to the longest one

double interpolate(double x, std::span<const double> xs, std::span<const double> ys) {
  const auto after = std::upper_bound(xs.begin(), xs.end(), x);
  if (after == xs.begin()) return ys.front();
  if (after == xs.end()) return ys.back();
  const auto i = static_cast<std::size_t>(after - xs.begin());
  return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1]);
}

Floats4 max_of(Floats4 values, float min) {
  return values > min ? values : Floats4{} + min;
}

/// Calls add(knot, share) for each knot from which F(t) is interpolated.
template <typename Add>
void for_knots(std::span<const double> knots, double t, Add add) {
  if (t <= 0) return;
  if (t <= knots[0]) {
    add(0, t / knots[0]);
    return;
  }
  const auto after = std::lower_bound(knots.begin(), knots.end(), t);
  if (after == knots.end()) {
    add(knots.size() - 1, 1.0);
    return;
  }
  const auto i = static_cast<std::size_t>(after - knots.begin());
  const double share = std::log(t / knots[i - 1]) / std::log(knots[i] / knots[i - 1]);
  add(i - 1, 1 - share);
  add(i, share);
}

}  // namespace

Horizons make_horizons(std::span<const std::uint32_t> accesses, double eviction_age) {
  std::vector<double> logs, places;
  for (const std::uint32_t horizon : accesses) {
    places.push_back(static_cast<double>(logs.size()));
    logs.push_back(std::log(horizon));
  }
  const double place = interpolate(std::log(eviction_age * kCentre), logs, places);
  Horizons horizons{{accesses.begin(), accesses.end()}, {}};
  double sum = 0;
  for (const double other : places) {
    const double weight = std::exp(-0.5 * std::pow((other - place) / kSpread, 2));
    horizons.weights.push_back(static_cast<float>(weight));
    sum += weight;
  }
  for (float& weight : horizons.weights) weight = static_cast<float>(weight / sum);
  return horizons;
}

double eviction_age(std::span<const std::pair<std::uint32_t, double>> ages, double capacity) {
  std::vector<double> capacities, logs;
  for (const auto& [rows, age] : ages) {
    capacities.push_back(std::log(rows));
    logs.push_back(std::log(age));
  }
  return std::exp(interpolate(std::log(capacity), capacities, logs));
}

CurveMap::CurveMap(std::span<const std::uint32_t> intervals, const Horizons& horizons,
                   double eviction_age)
    : num_intervals_(intervals.size()),
      num_knots_(intervals.size() + kExtrapolated),
      horizons_(horizons) {
  if (intervals.empty() || num_knots_ > kMaxKnots) {
    throw std::invalid_argument("intervals: expected 1 to " +
                                std::to_string(kMaxKnots - kExtrapolated) + ", got " +
                                std::to_string(intervals.size()));
  }
  // The points reach a few times beyond the age at which rows are evicted.
  shift_ = static_cast<std::uint32_t>(std::max(6.0, std::floor(std::log2(eviction_age)) - 9));
  for (auto* table : {&gain_of_, &survival_of_}) {
    for (Points& points : *table) points.fill(Floats4{});
  }
  std::vector<double> knots(intervals.begin(), intervals.end());
  while (knots.size() < num_knots_) knots.push_back(2 * knots.back());
  for (std::size_t point = 0; point < kCurvePoints; ++point) fill_point(knots, point);
  double sum = 0;
  for (std::size_t i = 0; i < horizons.accesses.size() && sum <= kCountedWeight; ++i) {
    sum += horizons.weights[i];
    max_horizon_ = horizons.accesses[i];
  }
}

/// Adds the contribution of each knot to the gain and the survival at a point.
void CurveMap::fill_point(std::span<const double> knots, std::size_t point) {
  const double d = point == 0 ? 0 : std::ldexp(1.0, static_cast<int>(shift_ + point));
  for_knots(knots, d, [&](std::size_t knot, double share) {
    survival_of_[knot][point / 4][point % 4] -= static_cast<float>(share);
    gain_of_[knot][point / 4][point % 4] -= static_cast<float>(share);
  });
  for (std::size_t i = 0; i < horizons_.accesses.size(); ++i) {
    for_knots(knots, d + horizons_.accesses[i], [&](std::size_t knot, double share) {
      gain_of_[knot][point / 4][point % 4] += horizons_.weights[i] * static_cast<float>(share);
    });
  }
}

Curve CurveMap::make(const float* hazards, std::uint32_t at) const {
  Points gain{}, survival{};
  float left = 1, hazard = 0;
  for (std::size_t knot = 0; knot < num_knots_; ++knot) {
    if (knot < num_intervals_) hazard = hazards[knot];
    left *= 1 - hazard;
    const float used = 1 - left;
    for (std::size_t i = 0; i < gain.size(); ++i) {
      gain[i] += used * gain_of_[knot][i];
      survival[i] += used * survival_of_[knot][i];
    }
  }
  Curve curve{.at = at};
  for (std::size_t i = 0; i < gain.size(); ++i) {
    const Floats4 value = max_of(gain[i], kMinGain) / max_of(1 + survival[i], kMinSurvival);
    const Floats4 codes = (fast_log2(value) - kLowestValue) * kCodesPerOctave + 0.5f;
    for (std::size_t j = 0; j < 4; ++j) {
      curve.codes[4 * i + j] = static_cast<std::uint8_t>(std::clamp(codes[j], 0.0f, 255.0f));
    }
  }
  return curve;
}

Value CurveMap::value(const Curve& curve, std::uint32_t now) const {
  const std::uint32_t d = now - curve.at;
  const std::uint32_t first = 2u << shift_;
  if (d < first) {
    const std::uint64_t sum =
        std::uint64_t{curve.codes[0]} * (first - d) + std::uint64_t{curve.codes[1]} * d;
    return static_cast<Value>((sum << 8) >> (shift_ + 1));
  }
  const auto octave = static_cast<std::uint32_t>(31 - std::countl_zero(d));
  const std::uint32_t point = octave - shift_;
  if (point >= kCurvePoints - 1) return Value{curve.codes[kCurvePoints - 1]} << 8;
  const auto share = static_cast<std::uint32_t>((std::uint64_t{d - (1u << octave)} << 8) >> octave);
  return curve.codes[point] * (256 - share) + curve.codes[point + 1] * share;
}

float CurveMap::outcome(std::uint32_t accesses) const {
  float sum = 0;
  for (std::size_t i = 0; i < horizons_.accesses.size(); ++i) {
    if (accesses <= horizons_.accesses[i]) sum += horizons_.weights[i];
  }
  return sum;
}

}  // namespace tieralloc
