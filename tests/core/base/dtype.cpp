// dtype.cpp: 16-bit floats against a conversion by arithmetic instead of bits.
#include "base/dtype.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "check.hpp"

namespace {

using tieralloc::BFloat16;
using tieralloc::from_float;
using tieralloc::Half;
using tieralloc::to_float;

/// IEEE 754 of `exponent_bits` and `fraction_bits`, from its definition.
double value_of(std::uint16_t bits, int exponent_bits, int fraction_bits) {
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

template <typename Narrow>
struct Format;
template <>
struct Format<Half> {
  static double value(std::uint16_t bits) { return value_of(bits, 5, 10); }
  static constexpr std::uint16_t kInfinity = 0x7C00;
};
template <>
struct Format<BFloat16> {
  static double value(std::uint16_t bits) { return value_of(bits, 8, 7); }
  static constexpr std::uint16_t kInfinity = 0x7F80;
};

template <typename Narrow>
void check_every_value_widens_exactly() {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const Narrow narrow{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(narrow);
    const double exact = Format<Narrow>::value(narrow.bits);
    CHECK_EQ(std::isnan(wide), std::isnan(exact));
    if (std::isnan(exact)) {
      CHECK(std::isnan(to_float(from_float<Narrow>(wide))));
      continue;
    }
    CHECK_EQ(static_cast<double>(wide), exact);
    CHECK_EQ(std::signbit(wide), std::signbit(exact));
    CHECK_EQ(from_float<Narrow>(wide).bits, narrow.bits);
  }
}

template <typename Narrow>
void check_rounding(float wide, std::uint16_t expected) {
  CHECK_EQ(from_float<Narrow>(wide).bits, expected);
  CHECK_EQ(from_float<Narrow>(-wide).bits, expected | 0x8000);
}

/// Between each two neighbouring values: the middle rounds to the even one, numbers next to the
/// middle to the nearer one. Rounding changes direction nowhere else.
template <typename Narrow>
void check_every_gap_rounds_to_nearest_even() {
  constexpr float kMost = std::numeric_limits<float>::infinity();
  for (std::uint16_t low = 0; low < Format<Narrow>::kInfinity; ++low) {
    const auto high = static_cast<std::uint16_t>(low + 1);
    const double below = Format<Narrow>::value(low);
    // Infinity is in the place of the next power of two.
    const double above =
        high == Format<Narrow>::kInfinity
            ? 2 * below - Format<Narrow>::value(static_cast<std::uint16_t>(low - 1))
            : Format<Narrow>::value(high);
    const auto middle = static_cast<float>((below + above) / 2);
    check_rounding<Narrow>(middle, low % 2 == 0 ? low : high);
    check_rounding<Narrow>(std::nextafter(middle, 0.0f), low);
    check_rounding<Narrow>(std::nextafter(middle, kMost), high);
  }
}

template <typename Narrow>
void check_random_values_round_to_the_nearest() {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto wide = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isfinite(wide)) continue;
    const std::uint16_t bits = from_float<Narrow>(wide).bits;
    const double magnitude = std::abs(static_cast<double>(wide));
    const auto rounded = static_cast<std::uint16_t>(bits & 0x7FFF);
    CHECK_EQ((bits & 0x8000) != 0, std::signbit(wide));
    if (rounded == Format<Narrow>::kInfinity) continue;  // its edge is among the gaps
    const double error = std::abs(Format<Narrow>::value(rounded) - magnitude);
    if (rounded > 0) {
      const double down = Format<Narrow>::value(static_cast<std::uint16_t>(rounded - 1));
      CHECK(error <= std::abs(down - magnitude));
    }
    const double up = Format<Narrow>::value(static_cast<std::uint16_t>(rounded + 1));
    CHECK(error <= std::abs(up - magnitude));
  }
}

template <typename Narrow>
void check_specials() {
  constexpr std::uint16_t kInfinity = Format<Narrow>::kInfinity;
  check_rounding<Narrow>(std::numeric_limits<float>::infinity(), kInfinity);
  check_rounding<Narrow>(std::numeric_limits<float>::max(), kInfinity);
  check_rounding<Narrow>(0.0f, 0);
  // Every payload, the ones that a shift would cut down to nothing included.
  for (std::uint32_t payload = 1; payload < 0x800000; payload += 4099) {
    for (std::uint32_t sign : {0u, 0x80000000u}) {
      const auto nan = std::bit_cast<float>(sign | 0x7F800000u | payload);
      CHECK(std::isnan(to_float(from_float<Narrow>(nan))));
    }
  }
}

TEST(every_float16_widens_exactly_and_comes_back) {
  check_every_value_widens_exactly<Half>();
}
TEST(every_bfloat16_widens_exactly_and_comes_back) {
  check_every_value_widens_exactly<BFloat16>();
}
TEST(float16_rounds_to_nearest_even) {
  check_every_gap_rounds_to_nearest_even<Half>();
}
TEST(bfloat16_rounds_to_nearest_even) {
  check_every_gap_rounds_to_nearest_even<BFloat16>();
}
TEST(random_floats_round_to_the_nearest_float16) {
  check_random_values_round_to_the_nearest<Half>();
}
TEST(random_floats_round_to_the_nearest_bfloat16) {
  check_random_values_round_to_the_nearest<BFloat16>();
}
TEST(float16_keeps_infinities_zeros_and_nans) {
  check_specials<Half>();
}
TEST(bfloat16_keeps_infinities_zeros_and_nans) {
  check_specials<BFloat16>();
}

}  // namespace
