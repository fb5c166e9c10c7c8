// quantised.cpp: quantised rows, made and pooled by every instruction set of this processor,
// against plain loops.
#include <bit>
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

#ifdef __SANITIZE_THREAD__
constexpr std::size_t kWidthStep = 13;
#else
constexpr std::size_t kWidthStep = 1;
#endif

template <typename Visit>
void each_width(Visit visit) {
  for (std::size_t dim = 1; dim <= 200; dim += kWidthStep) visit(dim);
  for (const std::size_t dim : {256, 511, 1024}) visit(dim);
}

unsigned code_of(const Row& row, DType dtype, std::size_t j) {
  if (dtype == DType::int8) return static_cast<unsigned>(row[kAffineBytes + j]);
  const auto pair = static_cast<unsigned>(row[kAffineBytes + j / 2]);
  return j % 2 == 0 ? pair & 15 : pair >> 4;
}

/// Scale and bias of a row.
std::pair<float, float> affine_of(const Row& row) {
  Half halves[2];
  std::memcpy(halves, row.data(), sizeof halves);
  return {to_float(halves[0]), to_float(halves[1])};
}

double value_of(const Row& row, DType dtype, std::size_t j) {
  const auto [scale, bias] = affine_of(row);
  return static_cast<double>(scale) * code_of(row, dtype, j) + static_cast<double>(bias);
}

/// Rows of random codes, every row in memory of its own with nothing behind it.
std::vector<Row> random_rows(std::size_t n, std::size_t dim, DType dtype, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Row> rows(n, Row(row_bytes_of(static_cast<std::uint32_t>(dim), dtype)));
  for (Row& row : rows) {
    for (std::byte& byte : row) byte = static_cast<std::byte>(random());
    const Half affine[2] = {
        from_float<Half>(std::uniform_real_distribution<float>(0, 0.1f)(random)),
        from_float<Half>(std::normal_distribution<float>(0, 1)(random))};
    std::memcpy(row.data(), affine, sizeof affine);
  }
  return rows;
}

template <typename Out>
void check_pooling(const Variant& variant, DType dtype, DType out_dtype, std::size_t dim, Mode mode,
                   bool weighted) {
  const std::vector<std::uint32_t> lengths = {3, 0, 1, 2, 20, 5};
  const std::vector<Row> rows = random_rows(31, dim, dtype, dim);
  std::vector<const std::byte*> pointers;
  std::vector<float> weights;
  for (const Row& row : rows) {
    pointers.push_back(row.data());
    weights.push_back(static_cast<float>(weights.size()) / 8 - 2);
  }
  const std::size_t bags = mode == Mode::copy ? rows.size() : lengths.size();
  std::vector<Out> out(bags * (dim + 3), Out{});
  PoolJob job;
  job.rows = pointers.data();
  job.lengths = mode == Mode::copy ? nullptr : lengths.data();
  job.bags = bags;
  job.weights = weighted ? weights.data() : nullptr;
  job.dim = dim;
  job.out = reinterpret_cast<std::byte*>(out.data());
  job.out_stride = (dim + 3) * sizeof(Out);
  variant.choose(dtype, out_dtype, mode, weighted)(job);
  std::size_t first = 0;
  for (std::size_t bag = 0; bag < bags; ++bag) {
    const std::size_t n = mode == Mode::copy ? 1 : lengths[bag];
    for (std::size_t j = 0; j < dim; ++j) {
      double expected = 0;
      double magnitude = 0;
      for (std::size_t i = first; i < first + n; ++i) {
        const double value = value_of(rows[i], dtype, j) * (weighted ? weights[i] : 1.0f);
        const bool is_larger = i == first || value > expected;
        expected = mode == Mode::max ? (is_larger ? value : expected) : expected + value;
        const auto [scale, bias] = affine_of(rows[i]);
        magnitude += (std::abs(scale) * 255 + std::abs(bias)) * 4;
      }
      if (mode == Mode::mean && n > 0) expected /= static_cast<double>(n);
      const double rounding = sizeof(Out) == 2 ? std::abs(expected) / 1024 + 1e-6 : 0;
      const double got = static_cast<double>(to_float(out[bag * (dim + 3) + j]));
      CHECK(std::abs(got - expected) <= magnitude * 1e-6 + rounding);
    }
    for (std::size_t j = dim; j < dim + 3; ++j) CHECK(to_float(out[bag * (dim + 3) + j]) == 0);
    first += n;
  }
}

template <typename Out>
void check_all_modes(DType out_dtype) {
  for (const Variant& variant : variants()) {
    for (const DType dtype : {DType::int8, DType::int4}) {
      each_width([&](std::size_t dim) {
        for (const Mode mode : {Mode::copy, Mode::sum, Mode::mean, Mode::max}) {
          check_pooling<Out>(variant, dtype, out_dtype, dim, mode, false);
        }
        check_pooling<Out>(variant, dtype, out_dtype, dim, Mode::sum, true);
      });
    }
  }
}

TEST(quantised_rows_pool_into_float32) {
  check_all_modes<float>(DType::float32);
}
TEST(quantised_rows_pool_into_float16) {
  check_all_modes<Half>(DType::float16);
}

TEST(quantised_rows_are_copied_as_they_are) {
  for (const Variant& variant : variants()) {
    each_width([&](std::size_t dim) {
      const std::vector<Row> rows = random_rows(40, dim, DType::int4, dim);
      std::vector<const std::byte*> pointers;
      for (const Row& row : rows) pointers.push_back(row.data());
      const std::size_t bytes = rows[0].size();
      std::vector<std::byte> out(rows.size() * bytes);
      const PoolJob job{pointers.data(), nullptr, rows.size(), nullptr, bytes, out.data(), bytes};
      variant.choose(DType::int4, DType::bytes, Mode::copy, false)(job);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        CHECK(std::memcmp(out.data() + i * bytes, rows[i].data(), bytes) == 0);
      }
    });
  }
}

/// A row of floats, quantised as kernels.hpp has it.
Row quantise_plainly(const std::vector<float>& values, DType dtype) {
  const float max_code = dtype == DType::int8 ? 255 : 15;
  float min = values[0];
  float max = values[0];
  for (const float value : values) {
    min = std::min(min, value);
    max = std::max(max, value);
  }
  const Half bias = from_float<Half>(min);
  const float range = max - to_float(bias);
  Half scale = from_float<Half>(range == 0 ? 1 : range / max_code);
  if (to_float(scale) == 0) scale = from_float<Half>(1.0f);
  Row row(row_bytes_of(static_cast<std::uint32_t>(values.size()), dtype));
  std::memcpy(row.data(), &scale, 2);
  std::memcpy(row.data() + 2, &bias, 2);
  const float inverse = 1 / to_float(scale);
  for (std::size_t j = 0; j < values.size(); ++j) {
    volatile float product = (values[j] - to_float(bias)) * inverse;  // rounded
    const float code = std::min(std::max(std::nearbyint(product), 0.0f), max_code);
    std::byte& byte = row[kAffineBytes + (dtype == DType::int8 ? j : j / 2)];
    const unsigned shift = dtype == DType::int4 && j % 2 == 1 ? 4 : 0;
    byte |= static_cast<std::byte>(static_cast<unsigned>(code) << shift);
  }
  return row;
}

std::vector<std::vector<float>> random_floats(std::size_t n, std::size_t dim, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<float>> rows(n, std::vector<float>(dim));
  for (auto& row : rows) {
    const double kind = std::uniform_real_distribution<double>(-9, 4)(random);
    const auto size = static_cast<float>(std::pow(10, kind));
    const float middle = random() % 3 == 0 ? 3.3f : 0.0f;
    const bool is_constant = random() % 5 == 0;
    for (float& value : row) {
      value = middle + size * (is_constant ? 1 : std::normal_distribution<float>(0, 1)(random));
    }
  }
  return rows;
}

TEST(rows_are_quantised_as_a_plain_loop_does) {
  for (const Variant& variant : variants()) {
    for (const DType dtype : {DType::int8, DType::int4}) {
      each_width([&](std::size_t dim) {
        std::vector<float> dense;
        const auto rows = random_floats(30, dim, dim);
        for (const auto& row : rows) dense.insert(dense.end(), row.begin(), row.end());
        const std::size_t bytes = row_bytes_of(static_cast<std::uint32_t>(dim), dtype);
        std::vector<std::byte> out(rows.size() * bytes, std::byte{0xA5});
        CHECK_EQ(variant.choose_quantise(dtype)(dense.data(), rows.size(), dim, out.data()),
                 rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const Row expected = quantise_plainly(rows[i], dtype);
          CHECK(std::memcmp(out.data() + i * bytes, expected.data(), bytes) == 0);
        }
      });
    }
  }
}

TEST(row_that_cannot_be_quantised_ends_the_quantisation) {
  const float bad[] = {std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN(), -7e4f, 3e38f};
  for (const Variant& variant : variants()) {
    each_width([&](std::size_t dim) {
      for (const float value : bad) {
        std::vector<float> rows(3 * dim, 0.5f);
        rows[dim + (dim * 7 + 3) % dim] = value;
        Row out(3 * row_bytes_of(static_cast<std::uint32_t>(dim), DType::int8));
        CHECK_EQ(variant.choose_quantise(DType::int8)(rows.data(), 3, dim, out.data()),
                 std::size_t{1});
      }
    });
  }
}

}  // namespace
