// float8.cpp: rows of float8 with block scales, decoded and pooled by every instruction set of this
// processor, against the definition of the formats.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels/variants.hpp"

namespace {

using namespace tieralloc;
using test::Variant;
using test::variants;

using Row = std::vector<std::byte>;

constexpr DType kFloat8[] = {DType::e4m3_ue8m0_32,   DType::e4m3_ue8m0_64,
                             DType::e4m3_ue8m0_128,  DType::e4m3_float32_32,
                             DType::e4m3_float32_64, DType::e4m3_float32_128};

double e4m3_value(unsigned bits) {
  const unsigned exponent = bits >> 3 & 15;
  const unsigned fraction = bits & 7;
  if ((bits & 0x7F) == 0x7F) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent == 0
                               ? std::ldexp(fraction, -9)
                               : std::ldexp(8 + fraction, static_cast<int>(exponent) - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

double scale_of(const Row& row, std::size_t dim, DType dtype, std::size_t j) {
  const auto [block, bytes] = block_scales(dtype);
  const std::byte* scales = row.data() + dim;
  if (bytes == 1) return std::ldexp(1.0, static_cast<int>(scales[j / block]) - 127);
  float scale;
  std::memcpy(&scale, scales + j / block * sizeof scale, sizeof scale);
  return static_cast<double>(scale);
}

double value_of(const Row& row, std::size_t dim, DType dtype, std::size_t j) {
  return e4m3_value(static_cast<unsigned>(row[j])) * scale_of(row, dim, dtype, j);
}

/// Rows of numbers, every row in memory of its own with nothing behind it.
std::vector<Row> random_rows(std::size_t n, std::size_t dim, DType dtype, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Row> rows(n, Row(row_bytes_of(static_cast<std::uint32_t>(dim), dtype)));
  for (Row& row : rows) {
    for (std::size_t j = 0; j < dim; ++j) {
      row[j] = static_cast<std::byte>(random());
      if ((row[j] & std::byte{0x7F}) == std::byte{0x7F}) row[j] = std::byte{0x80};  // -0
    }
    for (std::size_t at = dim; at < row.size(); at += block_scales(dtype).bytes) {
      const float scale = std::uniform_real_distribution<float>(0.01f, 4.0f)(random);
      const auto exponent = static_cast<std::uint8_t>(120 + random() % 10);
      if (block_scales(dtype).bytes == 1) {
        row[at] = static_cast<std::byte>(exponent);
      } else {
        std::memcpy(row.data() + at, &scale, sizeof scale);
      }
    }
  }
  return rows;
}

template <typename Out>
std::vector<Out> pooled(const Variant& variant, const std::vector<Row>& rows, DType dtype,
                        DType out_dtype, std::size_t dim, Mode mode, const float* weights,
                        std::uint32_t per_bag) {
  std::vector<const std::byte*> pointers;
  for (const Row& row : rows) pointers.push_back(row.data());
  const std::vector<std::uint32_t> lengths(rows.size() / per_bag, per_bag);
  std::vector<Out> out(lengths.size() * dim);
  PoolJob job;
  job.rows = pointers.data();
  job.lengths = mode == Mode::copy ? nullptr : lengths.data();
  job.bags = lengths.size();
  job.weights = weights;
  job.dim = dim;
  job.out = reinterpret_cast<std::byte*>(out.data());
  job.out_stride = dim * sizeof(Out);
  job.scales = block_scales(dtype);
  variant.choose(dtype, out_dtype, mode, weights != nullptr)(job);
  return out;
}

template <typename Visit>
void each_case(Visit visit) {
  for (const Variant& variant : variants()) {
    for (const DType dtype : kFloat8) {
      for (const std::size_t dim : {1, 7, 16, 31, 32, 33, 63, 64, 80, 100, 128, 129, 160, 320}) {
        visit(variant, dtype, dim);
      }
    }
  }
}

/// The values, rounded once.
template <typename Out>
void check_copies(DType out_dtype) {
  each_case([&](const Variant& variant, DType dtype, std::size_t dim) {
    const std::vector<Row> rows = random_rows(20, dim, dtype, static_cast<unsigned>(dim));
    const auto out = pooled<Out>(variant, rows, dtype, out_dtype, dim, Mode::copy, nullptr, 1);
    for (std::size_t i = 0; i < rows.size() * dim; ++i) {
      const auto value = static_cast<float>(value_of(rows[i / dim], dim, dtype, i % dim));
      const Out expected = from_float<Out>(value);
      CHECK(std::memcmp(&out[i], &expected, sizeof expected) == 0);
    }
  });
}

TEST(float8_rows_are_decoded_to_float32) {
  check_copies<float>(DType::float32);
}
TEST(float8_rows_are_decoded_to_float16) {
  check_copies<Half>(DType::float16);
}
TEST(float8_rows_are_decoded_to_bfloat16) {
  check_copies<BFloat16>(DType::bfloat16);
}

TEST(float8_rows_are_pooled_as_their_values) {
  constexpr std::uint32_t kPerBag = 4;
  each_case([&](const Variant& variant, DType dtype, std::size_t dim) {
    const std::vector<Row> rows = random_rows(5 * kPerBag, dim, dtype, 1);
    std::vector<float> weights;
    for (std::size_t i = 0; i < rows.size(); ++i) weights.push_back(static_cast<float>(i) - 3);
    for (const auto& [mode, factors] : {std::pair{Mode::sum, static_cast<const float*>(nullptr)},
                                        {Mode::mean, nullptr},
                                        {Mode::max, nullptr},
                                        {Mode::sum, weights.data()}}) {
      const auto out =
          pooled<float>(variant, rows, dtype, DType::float32, dim, mode, factors, kPerBag);
      for (std::size_t i = 0; i < out.size(); ++i) {
        double expected = 0;
        double magnitude = 0;
        for (std::size_t j = 0; j < kPerBag; ++j) {
          const std::size_t row = i / dim * kPerBag + j;
          const double value = value_of(rows[row], dim, dtype, i % dim) *
                               (factors == nullptr ? 1.0 : static_cast<double>(factors[row]));
          magnitude += std::abs(value);
          expected =
              mode == Mode::max ? (j == 0 ? value : std::max(expected, value)) : expected + value;
        }
        if (mode == Mode::mean) expected /= kPerBag;
        CHECK(std::abs(static_cast<double>(out[i]) - expected) <= magnitude * 1e-6);
      }
    }
  });
}

TEST(every_float8_has_its_value) {
  for (const Variant& variant : variants()) {
    for (unsigned first = 0; first < 256; first += 32) {
      Row row(row_bytes_of(32, DType::e4m3_ue8m0_32), std::byte{127});
      for (unsigned j = 0; j < 32; ++j) row[j] = static_cast<std::byte>(first + j);
      const auto out = pooled<float>(variant, {row}, DType::e4m3_ue8m0_32, DType::float32, 32,
                                     Mode::copy, nullptr, 1);
      for (unsigned j = 0; j < 32; ++j) {
        const double expected = e4m3_value(first + j);
        CHECK(std::isnan(expected) ? std::isnan(out[j]) : out[j] == static_cast<float>(expected));
        CHECK_EQ(std::signbit(out[j]), first + j >= 128);
      }
    }
  }
}

TEST(exponents_of_scales_have_their_values) {
  for (int bits = 0; bits < 255; ++bits) {
    CHECK_EQ(exponent_to_float(static_cast<std::uint8_t>(bits)), std::ldexp(1.0f, bits - 127));
  }
  CHECK(std::isnan(exponent_to_float(255)));
}

}  // namespace
