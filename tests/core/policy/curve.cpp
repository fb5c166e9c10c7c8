// curve.cpp: curves against the formula in curve.hpp, in double precision.
#include "policy/curve.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "check.hpp"

namespace {

using namespace tieralloc;

using Accesses = std::vector<std::uint32_t>;

Accesses powers_of_four(std::uint32_t first, std::size_t count) {
  Accesses powers;
  for (std::size_t i = 0; i < count; ++i) powers.push_back(first << 2 * i);
  return powers;
}

/// F(t): linear up to the first knot, then in log t between knots, constant after the last one.
class Uses {
 public:
  Uses(const Accesses& intervals, const std::vector<float>& hazards) {
    double left = 1;
    for (std::size_t i = 0; i < intervals.size() + 4; ++i) {
      left *= 1 - double{hazards[std::min(i, hazards.size() - 1)]};
      knots_.push_back(i < intervals.size() ? intervals[i] : 2 * knots_.back());
      used_.push_back(1 - left);
    }
  }

  double operator()(double t) const {
    if (t <= knots_[0]) return used_[0] * t / knots_[0];
    for (std::size_t i = 1; i < knots_.size(); ++i) {
      if (t > knots_[i]) continue;
      const double share = std::log(t / knots_[i - 1]) / std::log(knots_[i] / knots_[i - 1]);
      return used_[i - 1] + (used_[i] - used_[i - 1]) * share;
    }
    return used_.back();
  }

 private:
  std::vector<double> knots_, used_;
};

double log2_of(Value value) {
  return static_cast<double>(value) / kValuesPerOctave + kLowestValue;
}

constexpr double kAge = 300000;

struct Bench {
  Accesses intervals = powers_of_four(16, 9);
  Horizons horizons = make_horizons(powers_of_four(64, 8), kAge);
  CurveMap map{intervals, horizons, kAge};

  std::vector<float> draw_hazards(std::mt19937_64& random) const {
    std::vector<float> hazards;
    std::uniform_real_distribution<float> uniform(0, 1);
    const float scale = uniform(random);
    for (std::size_t i = 0; i < intervals.size(); ++i) {
      hazards.push_back(scale * std::pow(uniform(random), 3.0f));
    }
    return hazards;
  }

  /// Numerator and denominator of the value after d accesses without a use.
  std::pair<double, double> gain_and_survival(const Uses& used, double d) const {
    double gain = 0;
    for (std::size_t i = 0; i < horizons.accesses.size(); ++i) {
      gain += horizons.weights[i] * (used(d + horizons.accesses[i]) - used(d));
    }
    return {gain, 1 - used(d)};
  }
};

/// The points of a curve, in accesses.
Accesses points() {
  Accesses points{0};
  const int first = std::max(6, static_cast<int>(std::floor(std::log2(kAge))) - 9) + 1;
  for (int i = 0; i + 1 < static_cast<int>(kCurvePoints); ++i) points.push_back(1u << (first + i));
  return points;
}

TEST(curve_points_match_the_formula) {
  const Bench bench;
  std::mt19937_64 random(1);
  int compared = 0;
  for (int trial = 0; trial < 500; ++trial) {
    const std::vector<float> hazards = bench.draw_hazards(random);
    const Uses used(bench.intervals, hazards);
    const Curve curve = bench.map.make(hazards.data(), 1000);
    for (const std::uint32_t d : points()) {
      const auto [gain, survival] = bench.gain_and_survival(used, d);
      if (gain < 1e-4 || survival < 1e-2) continue;  // near the floors
      const double got = log2_of(bench.map.value(curve, 1000 + d));
      CHECK(std::abs(got - std::log2(gain / survival)) < 0.5 / kCodesPerOctave + 0.01);
      ++compared;
    }
  }
  CHECK(compared > 3000);
}

TEST(curve_between_points_is_interpolated) {
  const Bench bench;
  std::mt19937_64 random(2);
  const Accesses at = points();
  for (int trial = 0; trial < 100; ++trial) {
    const Curve curve = bench.map.make(bench.draw_hazards(random).data(), 0);
    for (std::size_t point = 0; point + 1 < at.size(); ++point) {
      const Value begin = bench.map.value(curve, at[point]);
      const Value end = bench.map.value(curve, at[point + 1]);
      CHECK_EQ(begin, curve.codes[point] * 256);
      Value last = begin;
      for (std::uint32_t step = 1; step < 20; ++step) {
        const std::uint32_t d = at[point] + (at[point + 1] - at[point]) / 20 * step;
        const Value value = bench.map.value(curve, d);
        CHECK(begin <= end ? last <= value && value <= end : last >= value && value >= end);
        last = value;
      }
    }
    for (std::uint32_t d : {at.back(), at.back() + 1, 0x80000000u, 0xFFFFFFFFu}) {
      CHECK_EQ(bench.map.value(curve, d), curve.codes.back() * 256);
    }
  }
}

TEST(curve_value_survives_a_wrap_of_the_counter) {
  const Bench bench;
  std::mt19937_64 random(3);
  const std::vector<float> hazards = bench.draw_hazards(random);
  const Curve early = bench.map.make(hazards.data(), 5);
  const Curve late = bench.map.make(hazards.data(), 0xFFFFFF00u);
  for (std::uint32_t d = 0; d < 4000000; d += 999) {
    CHECK_EQ(bench.map.value(late, 0xFFFFFF00u + d), bench.map.value(early, 5 + d));
  }
}

TEST(curve_of_extreme_hazards_stays_within_bounds) {
  const Bench bench;
  for (float hazard : {0.0f, 1e-30f, 1.0f}) {
    const std::vector<float> hazards(bench.intervals.size(), hazard);
    const Curve curve = bench.map.make(hazards.data(), 0);
    for (std::uint32_t d : {0u, 1u, 5000u, 1u << 20, 1u << 31}) {
      const Value value = bench.map.value(curve, d);
      CHECK(value <= kMaxValue);
      if (hazard < 1e-20f) CHECK(log2_of(value) < -23);
    }
    if (hazard == 1) CHECK(std::abs(log2_of(bench.map.value(curve, 0))) < 0.06);
  }
}

TEST(curve_map_with_invalid_intervals_throws) {
  const Horizons horizons{{64}, {1}};
  CHECK_THROWS(std::invalid_argument, CurveMap({}, horizons, 100),
               "intervals: expected 1 to 36, got 0");
  Accesses many(37);
  std::iota(many.begin(), many.end(), 1);
  CHECK_THROWS(std::invalid_argument, CurveMap(many, horizons, 100), "got 37");
  many.pop_back();
  CurveMap(many, horizons, 100);
}

TEST(curve_outcome_is_the_weight_of_met_horizons) {
  const CurveMap map(Accesses{10, 100}, {{10, 50, 200}, {0.25f, 0.5f, 0.25f}}, 1000);
  CHECK_EQ(map.outcome(1), 1);
  CHECK_EQ(map.outcome(10), 1);
  CHECK_EQ(map.outcome(11), 0.75f);
  CHECK_EQ(map.outcome(50), 0.75f);
  CHECK_EQ(map.outcome(51), 0.25f);
  CHECK_EQ(map.outcome(201), 0);
  CHECK_EQ(map.max_horizon(), 200);
  const CurveMap light(Accesses{10}, {{10, 50, 200}, {0.25f, 0.73f, 0.02f}}, 1000);
  CHECK_EQ(light.max_horizon(), 50);
}

TEST(horizon_weights_peak_near_a_sixth_of_the_age) {
  const Accesses accesses = powers_of_four(64, 8);
  for (double age : {1.0, 500.0, 6.0 * 1024, 1e6, 1e12}) {
    const Horizons horizons = make_horizons(accesses, age);
    CHECK(horizons.accesses == accesses);
    const double sum = std::accumulate(horizons.weights.begin(), horizons.weights.end(), 0.0);
    CHECK(std::abs(sum - 1) < 1e-5);
    const auto peak = std::max_element(horizons.weights.begin(), horizons.weights.end()) -
                      horizons.weights.begin();
    std::size_t nearest = 0;
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      const auto distance = [&](std::size_t at) {
        return std::abs(std::log(accesses[at] / (age / 6)));
      };
      if (distance(i) < distance(nearest)) nearest = i;
    }
    CHECK_EQ(peak, nearest);
  }
}

TEST(eviction_age_is_interpolated_in_logarithms) {
  const std::vector<std::pair<std::uint32_t, double>> ages{{100, 1000}, {10000, 9000}};
  CHECK(std::abs(eviction_age(ages, 1) - 1000) < 1e-6);
  CHECK(std::abs(eviction_age(ages, 100) - 1000) < 1e-6);
  CHECK(std::abs(eviction_age(ages, 1000) - 3000) < 1e-6);
  CHECK(std::abs(eviction_age(ages, 1e9) - 9000) < 1e-6);
}

}  // namespace
