// calibration.cpp: corrections of values by outcomes, and bounded memory.
#include "policy/calibration.hpp"

#include <array>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "faults.hpp"

namespace {

using namespace tieralloc;

constexpr std::array<std::uint32_t, 3> kIntervals{16, 256, 4096};
constexpr std::uint32_t kElapsed = 100;

/// A use has the full value up to 100 accesses, and none after.
const CurveMap& map() {
  static const CurveMap map(kIntervals, {{100}, {1}}, 1000);
  return map;
}

Value encode_value(double value) {
  return static_cast<Value>((std::log2(value) - kLowestValue) * kValuesPerOctave);
}
double decode_value(Value value) {
  return std::exp2(static_cast<double>(value) / kValuesPerOctave + kLowestValue);
}

/// Predicts `value` for rows; `used` of 1000 rows are used in time.
void predict(Calibration& calibration, double value, std::uint32_t used, int rounds,
             std::uint32_t now = 0) {
  RowId row = 0;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < 20; ++i)
      calibration.add_prediction(row + i, encode_value(value), kElapsed, now);
    for (int i = 0; i < 20; ++i, ++row) {
      if ((row * 7919) % 1000 < used) calibration.observe(row, now + 50);
    }
    now += 200;
    calibration.expire(now);
  }
}

TEST(calibration_without_predictions_changes_nothing) {
  Calibration calibration(map(), 1000);
  for (RowId row = 0; row < 1000; ++row) calibration.observe(row, 5);
  calibration.expire(1000000);
  for (Value value = 0; value <= kMaxValue; value += 77) {
    for (std::uint32_t elapsed : {0u, 1u, 1000u, 0xFFFFFFFFu}) {
      CHECK_EQ(calibration.corrected(value, elapsed), value);
    }
  }
}

TEST(calibration_moves_values_to_outcomes) {
  for (double value : {0.02, 0.2, 0.8}) {
    for (std::uint32_t used : {100u, 500u, 900u}) {
      Calibration calibration(map(), 1000);
      predict(calibration, value, used, 1000);
      const double got = decode_value(calibration.corrected(encode_value(value), kElapsed));
      CHECK(std::abs(got / (used / 1000.0) - 1) < 0.15);
    }
  }
}

TEST(calibration_of_correct_predictions_changes_little) {
  Calibration calibration(map(), 1000);
  predict(calibration, 0.3, 300, 1000);
  CHECK(std::abs(decode_value(calibration.corrected(encode_value(0.3), kElapsed)) - 0.3) < 0.03);
}

TEST(calibration_corrects_only_its_cell) {
  Calibration calibration(map(), 1000);
  predict(calibration, 0.3, 0, 500);
  CHECK(calibration.corrected(encode_value(0.3), kElapsed) < encode_value(0.1));
  for (const auto& [value, elapsed] : {std::pair{0.01, 100u}, {0.9, 100u}, {0.3, 1u}}) {
    CHECK_EQ(calibration.corrected(encode_value(value), elapsed), encode_value(value));
  }
}

TEST(calibration_follows_a_change) {
  Calibration calibration(map(), 1000);
  predict(calibration, 0.3, 900, 1000);
  CHECK(calibration.corrected(encode_value(0.3), kElapsed) > encode_value(0.7));
  predict(calibration, 0.3, 50, 1000, 1000000);
  CHECK(calibration.corrected(encode_value(0.3), kElapsed) < encode_value(0.1));
}

TEST(calibration_stays_within_the_range_of_values) {
  Calibration calibration(map(), 1000);
  predict(calibration, 1e-6, 1000, 500);
  const double got = decode_value(calibration.corrected(encode_value(1e-6), kElapsed));
  CHECK(got > 1e-4 && got <= 1.01);
  Calibration high(map(), 1000);
  predict(high, 2.9, 1000, 500);
  CHECK(high.corrected(kMaxValue, kElapsed) <= kMaxValue);
}

TEST(calibration_ignores_the_access_of_the_prediction) {
  Calibration calibration(map(), 1000);
  RowId row = 0;
  for (std::uint32_t now = 0; now < 100000; now += 200) {
    for (int i = 0; i < 20; ++i, ++row) {
      calibration.add_prediction(row, encode_value(0.3), kElapsed, now);
      calibration.observe(row, now);
    }
    calibration.expire(now + 199);
  }
  CHECK(calibration.corrected(encode_value(0.3), kElapsed) < encode_value(0.05));
}

TEST(calibration_survives_a_wrap_of_the_counter) {
  Calibration early(map(), 1000), wrapping(map(), 1000);
  predict(early, 0.3, 800, 200, 0);
  predict(wrapping, 0.3, 800, 200, 0xFFFFFFFFu - 100 * 200);
  CHECK_EQ(early.corrected(encode_value(0.3), kElapsed),
           wrapping.corrected(encode_value(0.3), kElapsed));
}

TEST(calibration_takes_memory_only_at_construction) {
  map();  // made at its first use
  for (std::uint32_t capacity : {1u, 1000u, 100000u}) {
    const std::size_t before = faults::allocated_bytes();
    Calibration calibration(map(), capacity);
    const std::size_t after = faults::allocated_bytes();
    CHECK_EQ(after - before, Calibration::bytes(capacity));
    for (RowId row = 0; row < 100000; ++row) {
      calibration.add_prediction(row, encode_value(0.3), kElapsed, 7);
      calibration.observe(row / 2, 9);
    }
    calibration.expire(1000);
    CHECK_EQ(faults::allocated_bytes(), after);
  }
}

TEST(calibration_with_a_full_ring_drops_predictions) {
  Calibration calibration(map(), 1);  // a ring of 64
  for (RowId row = 0; row < 1000; ++row) {
    calibration.add_prediction(row, encode_value(0.5), kElapsed, 7);
  }
  calibration.expire(1000);
  // At most 64 outcomes of 0 against predictions of 0.5, and a prior of 5 correct ones.
  const double got = decode_value(calibration.corrected(encode_value(0.5), kElapsed));
  CHECK(got >= 0.5 * 5 / (5 + 64 * 0.5) * 0.99);
  CHECK(got <= 0.5 * 5 / (5 + 32 * 0.5) * 1.01);
}

}  // namespace
