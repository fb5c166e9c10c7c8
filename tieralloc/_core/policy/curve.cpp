#include "policy/curve.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>

namespace tieralloc {
namespace {

constexpr double kCentre = 1.0 / 6;       // of the eviction age
constexpr double kSpread = 1.2;           // horizons
constexpr std::size_t kExtrapolated = 4;  // knots beyond the last interval, each twice as far
constexpr float kLeastSurvival = 1e-3f;
constexpr float kLeastGain = 1e-7f;
constexpr double kCounted = 0.97;  // weight of the horizons up to the longest

double interpolate(double x, std::span<const double> xs, std::span<const double> ys) {
  const auto after = std::upper_bound(xs.begin(), xs.end(), x);
  if (after == xs.begin()) return ys.front();
  if (after == xs.end()) return ys.back();
  const auto i = static_cast<std::size_t>(after - xs.begin());
  return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1]);
}

Floats4 at_least(Floats4 values, float least) {
  return values > least ? values : Floats4{} + least;
}

/// Adds `scale` times the weights with which F(t) is interpolated from its knots.
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

Horizons weigh_horizons(std::span<const std::uint32_t> accesses, double eviction_age) {
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
    : given_(intervals.size()), knots_(intervals.size() + kExtrapolated), horizons_(horizons) {
  if (intervals.empty() || knots_ > kMaxKnots) {
    throw std::invalid_argument("intervals: expected 1 to " +
                                std::to_string(kMaxKnots - kExtrapolated) + ", got " +
                                std::to_string(intervals.size()));
  }
  std::vector<double> knots(intervals.begin(), intervals.end());
  while (knots.size() < knots_) knots.push_back(2 * knots.back());
  // The points reach a few times beyond the age at which rows are evicted.
  shift_ = static_cast<std::uint32_t>(std::max(6.0, std::floor(std::log2(eviction_age)) - 9));
  for (auto* table : {&gained_, &lost_}) {
    for (Points& points : *table) points.fill(Floats4{});
  }
  for (std::size_t point = 0; point < kCurvePoints; ++point) {
    const double d = point == 0 ? 0 : std::ldexp(1.0, static_cast<int>(shift_ + point));
    for_knots(knots, d, [&](std::size_t knot, double share) {
      lost_[knot][point / 4][point % 4] -= static_cast<float>(share);
      gained_[knot][point / 4][point % 4] -= static_cast<float>(share);
    });
    for (std::size_t i = 0; i < horizons.accesses.size(); ++i) {
      for_knots(knots, d + horizons.accesses[i], [&](std::size_t knot, double share) {
        gained_[knot][point / 4][point % 4] += horizons.weights[i] * static_cast<float>(share);
      });
    }
  }
  double sum = 0;
  for (std::size_t i = 0; i < horizons.accesses.size() && sum <= kCounted; ++i) {
    sum += horizons.weights[i];
    longest_ = horizons.accesses[i];
  }
}

Curve CurveMap::make(const float* hazards, std::uint32_t at) const {
  Points gained{}, survival{};
  float left = 1, hazard = 0;
  for (std::size_t knot = 0; knot < knots_; ++knot) {
    if (knot < given_) hazard = hazards[knot];
    left *= 1 - hazard;
    const float used = 1 - left;
    for (std::size_t i = 0; i < gained.size(); ++i) {
      gained[i] += used * gained_[knot][i];
      survival[i] += used * lost_[knot][i];
    }
  }
  Curve curve{.at = at};
  for (std::size_t i = 0; i < gained.size(); ++i) {
    const Floats4 left_then = at_least(1 + survival[i], kLeastSurvival);
    const Floats4 worth = at_least(gained[i], kLeastGain) / left_then;
    const Floats4 codes = (fast_log2(worth) - kLowestValue) * kCodesPerOctave + 0.5f;
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
