// kernels.cpp: pooling by every instruction set of this processor against a plain loop.
#include "kernels/kernels.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/variants.hpp"

namespace {

using namespace tieralloc;
using test::Variant;
using test::variants;

template <typename T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType value = DType::float32;
  using Sum = float;
};
template <>
struct TypeOf<double> {
  static constexpr DType value = DType::float64;
  using Sum = double;
};
template <>
struct TypeOf<Half> {
  static constexpr DType value = DType::float16;
  using Sum = float;
};
template <>
struct TypeOf<BFloat16> {
  static constexpr DType value = DType::bfloat16;
  using Sum = float;
};

/// The same value, NaN equal to NaN, zeros told apart by sign.
template <typename T>
bool same(T a, T b) {
  const auto x = to_float(a);
  const auto y = to_float(b);
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  return x == y && std::signbit(x) == std::signbit(y);
}

/// Bags of some rows each, every row in memory of its own with nothing behind it.
template <typename Row>
struct Bags {
  using Sum = typename TypeOf<Row>::Sum;
  std::vector<std::vector<Row>> rows;
  std::vector<const std::byte*> pointers;
  std::vector<std::uint32_t> lengths;
  std::vector<Sum> weights;
  std::size_t dim;

  Bags(std::size_t dim, std::vector<std::uint32_t> bag_lengths, std::uint64_t seed)
      : lengths(std::move(bag_lengths)), dim(dim) {
    std::mt19937_64 random(seed);
    std::size_t total = 0;
    for (std::uint32_t length : lengths) total += length;
    for (std::size_t i = 0; i < total; ++i) {
      std::vector<Row> row(dim);
      for (Row& element : row) element = draw(random);
      rows.push_back(std::move(row));
      weights.push_back(std::uniform_real_distribution<Sum>(-2, 2)(random));
    }
    for (const auto& row : rows) pointers.push_back(reinterpret_cast<const std::byte*>(row.data()));
  }

  static Row draw(std::mt19937_64& random) {
    const Sum values[] = {Sum(0.0), Sum(-0.0), std::numeric_limits<Sum>::infinity(),
                          -std::numeric_limits<Sum>::infinity(), Sum(1e-7)};
    const std::uint64_t kind = random() % 400;
    const Sum value = kind < 5 ? values[kind] : std::normal_distribution<Sum>(0, 1)(random);
    return from_float<Row>(value);
  }
};

/// What the kernels promise: in the order of the rows, from zero, rounded once at the end.
template <typename Row>
std::vector<typename TypeOf<Row>::Sum> pool_plainly(const Bags<Row>& bags, std::size_t first,
                                                    std::size_t n, Mode mode, bool weighted) {
  using Sum = typename TypeOf<Row>::Sum;
  std::vector<Sum> result(bags.dim, Sum{0});
  for (std::size_t i = first; i < first + n; ++i) {
    for (std::size_t j = 0; j < bags.dim; ++j) {
      const Sum value = to_float(bags.rows[i][j]);
      if (mode == Mode::max) {
        if (i == first || value > result[j]) result[j] = value;
      } else {
        const Sum product = weighted ? bags.weights[i] * value : value;
        result[j] = result[j] + product;
      }
    }
  }
  if (mode == Mode::mean && n > 0) {
    for (Sum& sum : result) sum = sum / static_cast<Sum>(n);
  }
  return result;
}

/// A product may be added with one rounding or with two, as the instruction set has it.
template <typename Row>
double slack_of_products(const Bags<Row>& bags, std::size_t first, std::size_t n, std::size_t j) {
  using Sum = typename TypeOf<Row>::Sum;
  double magnitude = 0;
  for (std::size_t i = first; i < first + n; ++i) {
    magnitude += std::abs(static_cast<double>(bags.weights[i]) *
                          static_cast<double>(to_float(bags.rows[i][j])));
  }
  return 2 * static_cast<double>(n) * static_cast<double>(std::numeric_limits<Sum>::epsilon()) *
         magnitude;
}

template <typename Row, typename Out>
void check_one(const Variant& variant, const Bags<Row>& bags, Mode mode, bool weighted) {
  const PoolFunction pool = variant.choose(TypeOf<Row>::value, TypeOf<Out>::value, mode, weighted);
  CHECK(pool != nullptr);
  constexpr std::byte kUntouched{0xA5};
  const std::size_t line = bags.dim * sizeof(Out) + 64;
  std::vector<std::byte> out(bags.lengths.size() * line, kUntouched);
  PoolJob job;
  job.rows = bags.pointers.data();
  job.lengths = mode == Mode::copy ? nullptr : bags.lengths.data();
  job.bags = bags.lengths.size();
  job.weights = weighted ? bags.weights.data() : nullptr;
  job.dim = bags.dim;
  job.out = out.data();
  job.out_stride = line;
  pool(job);
  std::size_t first = 0;
  for (std::size_t bag = 0; bag < bags.lengths.size(); ++bag) {
    const std::size_t n = bags.lengths[bag];
    const auto expected = pool_plainly(bags, first, n, mode, weighted);
    const auto* got = reinterpret_cast<const Out*>(out.data() + bag * line);
    for (std::size_t j = 0; j < bags.dim; ++j) {
      if (mode == Mode::copy) {
        CHECK(same(got[j], from_float<Out>(to_float(bags.rows[first][j]))));
        continue;
      }
      if (!weighted) {
        CHECK(same(got[j], from_float<Out>(expected[j])));
        continue;
      }
      const auto value = static_cast<double>(to_float(got[j]));
      const auto wanted = static_cast<double>(expected[j]);
      if (!std::isfinite(wanted)) {
        CHECK(same(to_float(got[j]), to_float(from_float<Out>(expected[j]))));
        continue;
      }
      // One more rounding, to the width of the result.
      const double rounding = sizeof(Out) == 2 ? std::abs(wanted) / 128 + 1e-7 : 0;
      CHECK(std::abs(value - wanted) <= slack_of_products(bags, first, n, j) + rounding);
    }
    for (std::size_t at = bags.dim * sizeof(Out); at < line; ++at) {
      CHECK(out[bag * line + at] == kUntouched);
    }
    first += n;
  }
}

template <typename Row, typename Out>
void check_all_modes(const Variant& variant, std::size_t dim) {
  const Bags<Row> bags(dim, {3, 0, 1, 2, 20, 0, 5}, dim);
  for (Mode mode : {Mode::sum, Mode::mean, Mode::max}) {
    check_one<Row, Out>(variant, bags, mode, false);
  }
  check_one<Row, Out>(variant, bags, Mode::sum, true);
  const Bags<Row> singles(dim, std::vector<std::uint32_t>(19, 1), dim + 1000);
  check_one<Row, Out>(variant, singles, Mode::copy, false);
}

// No threads are at work here, so ThreadSanitizer sees to a few widths only.
#ifdef __SANITIZE_THREAD__
constexpr std::size_t kWidthStep = 7;
#else
constexpr std::size_t kWidthStep = 1;
#endif

template <typename Row, typename Out>
void check_all_widths() {
  for (const Variant& variant : variants()) {
    for (std::size_t dim = 1; dim <= 200; dim += kWidthStep) {
      check_all_modes<Row, Out>(variant, dim);
    }
    for (std::size_t dim : {256, 511, 1024}) check_all_modes<Row, Out>(variant, dim);
  }
}

TEST(float32_rows_pool_as_a_plain_loop_does) {
  check_all_widths<float, float>();
}
TEST(float64_rows_pool_as_a_plain_loop_does) {
  check_all_widths<double, double>();
}
TEST(float16_rows_pool_as_a_plain_loop_does) {
  check_all_widths<Half, Half>();
}
TEST(bfloat16_rows_pool_as_a_plain_loop_does) {
  check_all_widths<BFloat16, BFloat16>();
}
TEST(float16_rows_pool_into_float32) {
  check_all_widths<Half, float>();
}
TEST(bfloat16_rows_pool_into_float32) {
  check_all_widths<BFloat16, float>();
}

TEST(float32_sums_are_the_same_bit_for_bit_by_every_instruction_set) {
  const Bags<float> bags(77, {100}, 5);
  const std::vector<float> expected = pool_plainly(bags, 0, 100, Mode::sum, false);
  for (const Variant& variant : variants()) {
    std::vector<float> out(77);
    const PoolJob job{bags.pointers.data(),
                      bags.lengths.data(),
                      1,
                      nullptr,
                      77,
                      reinterpret_cast<std::byte*>(out.data()),
                      0};
    variant.choose(DType::float32, DType::float32, Mode::sum, false)(job);
    for (std::size_t j = 0; j < out.size(); ++j) {
      CHECK_EQ(std::bit_cast<std::uint32_t>(out[j]), std::bit_cast<std::uint32_t>(expected[j]));
    }
  }
}

TEST(max_keeps_a_leading_nan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> rows[] = {{nan, 1.0f}, {2.0f, nan}};
  const std::byte* pointers[] = {reinterpret_cast<const std::byte*>(rows[0].data()),
                                 reinterpret_cast<const std::byte*>(rows[1].data())};
  const std::uint32_t length = 2;
  for (const Variant& variant : variants()) {
    float out[2];
    const PoolJob job{pointers, &length, 1, nullptr, 2, reinterpret_cast<std::byte*>(out), 0};
    variant.choose(DType::float32, DType::float32, Mode::max, false)(job);
    CHECK(std::isnan(out[0]));
    CHECK_EQ(out[1], 1.0f);
  }
}

TEST(widest_instruction_set_is_chosen) {
  CHECK_EQ(std::string(kernel_isa()), variants().back().name);
  for (Mode mode : {Mode::copy, Mode::sum, Mode::mean, Mode::max}) {
    CHECK(choose_pool(DType::float32, DType::float32, mode, false) ==
          variants().back().choose(DType::float32, DType::float32, mode, false));
  }
}

}  // namespace
