// network.cpp: native networks of all instruction sets of this machine against double precision.
#include "policy/network.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  std::uint32_t features, tables, embedding_dim, first, second, outputs;
};

std::vector<float> draw(std::mt19937_64& random, std::size_t count, double deviation) {
  std::vector<float> values(count);
  std::normal_distribution<double> normal(0, deviation);
  for (float& value : values) value = static_cast<float>(normal(random));
  return values;
}

/// Weights whose layers keep the magnitude of their inputs.
NetworkWeights draw_weights(const Shape& shape, std::mt19937_64& random) {
  const auto [features, tables, dim, first, second, outputs] = shape;
  const std::size_t columns = features - 1 + dim;
  NetworkWeights weights{features, tables, dim, first, second, outputs, 6,  {},
                         {},       {},     {},  {},    {},     {},      {}, {}};
  weights.mean = draw(random, features - 1, 1);
  weights.scale = draw(random, features - 1, 1);
  weights.embedding = draw(random, std::size_t{tables} * dim, 1);
  weights.w1 = draw(random, first * columns, std::sqrt(2.0 / static_cast<double>(columns)));
  weights.b1 = draw(random, first, 0.2);
  weights.w2 = draw(random, std::size_t{second} * first, std::sqrt(2.0 / first));
  weights.b2 = draw(random, second, 0.2);
  weights.w3 = draw(random, std::size_t{outputs} * second, std::sqrt(1.0 / second));
  weights.b3 = draw(random, outputs, 0.2);
  return weights;
}

std::vector<float> draw_features(const Shape& shape, std::size_t rows, std::mt19937_64& random) {
  std::vector<float> features = draw(random, rows * shape.features, 2);
  for (std::size_t row = 0; row < rows; ++row) {
    features[row * shape.features] = static_cast<float>(random() % shape.tables);
  }
  return features;
}

using Doubles = std::vector<double>;

/// weights * in + bias.
Doubles apply_layer(const std::vector<float>& weights, const std::vector<float>& bias,
                    const Doubles& in, bool rectify) {
  Doubles out(bias.begin(), bias.end());
  for (std::size_t o = 0; o < out.size(); ++o) {
    for (std::size_t i = 0; i < in.size(); ++i) out[o] += weights[o * in.size() + i] * in[i];
    if (rectify) out[o] = std::max(out[o], 0.0);
  }
  return out;
}

Doubles evaluate_in_double(const NetworkWeights& weights, const float* features) {
  const double last = weights.tables - 1;
  const double number = std::isnan(features[0]) ? 0 : features[0];
  const auto table = static_cast<std::size_t>(std::clamp(number, 0.0, last));
  Doubles x;
  for (std::size_t i = 0; i + 1 < weights.features; ++i) {
    const double scaled = (double{features[i + 1]} - weights.mean[i]) * weights.scale[i];
    x.push_back(std::isnan(scaled) ? 0 : std::clamp<double>(scaled, -weights.bound, weights.bound));
  }
  const auto row =
      weights.embedding.begin() +
      static_cast<std::ptrdiff_t>(table) * static_cast<std::ptrdiff_t>(weights.embedding_dim);
  x.insert(x.end(), row, row + weights.embedding_dim);
  Doubles h = apply_layer(weights.w1, weights.b1, x, true);
  h = apply_layer(weights.w2, weights.b2, h, true);
  h = apply_layer(weights.w3, weights.b3, h, false);
  for (double& z : h) z = 1 / (1 + std::exp(-z));
  return h;
}

/// Probabilities of all rows. The arrays have no spare capacity, so that AddressSanitizer finds
/// accesses beyond them.
std::vector<float> evaluate(Network& network, const std::vector<float>& features) {
  const std::size_t rows = features.size() / network.features();
  std::vector<float> probabilities(rows * network.outputs(), -1.0f);
  network.evaluate(features.data(), rows, probabilities.data());
  return probabilities;
}

void check_against_double(const NetworkWeights& weights, const std::vector<float>& features) {
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    const std::vector<float> got = evaluate(*network, features);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t row = i / weights.outputs;
      const Doubles expected = evaluate_in_double(weights, &features[row * weights.features]);
      const double error = std::abs(got[i] - expected[i % weights.outputs]);
      if (error <= 1e-4) continue;  // false for NaN
      check::fail(__FILE__, __LINE__,
                  std::string(kind) + ": probability " + std::to_string(i) + " is off by " +
                      std::to_string(error));
    }
  }
}

void check_shape(const Shape& shape, std::size_t rows, std::mt19937_64& random) {
  const NetworkWeights weights = draw_weights(shape, random);
  check_against_double(weights, draw_features(shape, rows, random));
}

constexpr Shape kTypical{17, 26, 8, 32, 16, 13};

TEST(network_of_typical_shape_agrees_with_double) {
  std::mt19937_64 random(1);
  for (const Shape& shape : {kTypical, Shape{32, 856, 8, 32, 16, 13}, Shape{70, 26, 16, 64, 32, 13},
                             Shape{81, 3, 4, 64, 32, 16}}) {
    check_shape(shape, 100, random);
  }
}

TEST(network_of_random_shape_agrees_with_double) {
  std::mt19937_64 random(2);
  const auto up_to = [&](std::uint32_t max) {
    return static_cast<std::uint32_t>(1 + random() % max);
  };
  for (std::size_t i = 0; i < repeated(150); ++i) {
    const Shape shape{1 + up_to(80), up_to(40), up_to(17), up_to(80), up_to(50), up_to(40)};
    check_shape(shape, up_to(30), random);
  }
}

TEST(network_of_any_width_agrees_with_double) {
  std::mt19937_64 random(3);
  for (std::uint32_t width = 1; width <= 36; ++width) {
    check_shape({1 + width, 2, 1, width, width, width}, 5, random);
  }
}

TEST(network_row_does_not_depend_on_other_rows) {
  std::mt19937_64 random(4);
  const NetworkWeights weights = draw_weights(kTypical, random);
  const std::vector<float> features = draw_features(kTypical, 100, random);
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    const std::vector<float> all = evaluate(*network, features);
    for (std::size_t rows = 0; rows <= 100; ++rows) {
      const std::vector<float> part(features.begin(),
                                    features.begin() + static_cast<std::ptrdiff_t>(rows * 17));
      const std::vector<float> got = evaluate(*network, part);
      CHECK_EQ(got.size(), rows * 13);
      CHECK(std::equal(got.begin(), got.end(), all.begin()));
    }
  }
}

TEST(network_writes_no_more_than_its_rows) {
  std::mt19937_64 random(5);
  const NetworkWeights weights = draw_weights(kTypical, random);
  const std::vector<float> features = draw_features(kTypical, 50, random);
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    for (std::size_t rows = 0; rows <= 50; ++rows) {
      std::vector<float> out(51 * 13 + 16, -1.0f);
      network->evaluate(features.data(), rows, out.data());
      for (std::size_t i = 0; i < out.size(); ++i) CHECK_EQ(out[i] == -1.0f, i >= rows * 13);
    }
  }
}

TEST(network_table_out_of_range_is_clamped) {
  std::mt19937_64 random(6);
  const NetworkWeights weights = draw_weights(kTypical, random);
  const std::pair<float, float> clamped[] = {
      {-1, 0},          {-1e30f, 0},  {-kInfinity, 0}, {-0.5f, 0},      {kNan, 0},
      {25.0f, 25},      {26, 25},     {1e30f, 25},     {kInfinity, 25}, {24.9f, 24},
      {4294967296, 25}, {-1e-40f, 0}, {1e-40f, 0}};
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    for (const auto& [number, table] : clamped) {
      std::vector<float> features = draw_features(kTypical, 1, random);
      features[0] = number;
      const std::vector<float> got = evaluate(*network, features);
      features[0] = table;
      CHECK(got == evaluate(*network, features));
    }
  }
}

TEST(network_with_extreme_inputs_agrees_with_double) {
  std::mt19937_64 random(7);
  const float extremes[] = {1e30f, -1e30f,    3.4e38f,    -3.4e38f, 1e-40f,
                            0.0f,  kInfinity, -kInfinity, kNan,     -0.0f};
  for (const Shape& shape : {kTypical, Shape{70, 26, 16, 64, 32, 13}}) {
    NetworkWeights weights = draw_weights(shape, random);
    weights.scale[0] = 0;
    weights.scale[1] = 3e38f;
    std::vector<float> features = draw_features(shape, 60, random);
    for (float& feature : features) {
      if (random() % 3 == 0) feature = extremes[random() % std::size(extremes)];
    }
    check_against_double(weights, features);
  }
}

TEST(network_counts_nan_as_the_mean) {
  std::mt19937_64 random(8);
  const NetworkWeights weights = draw_weights(kTypical, random);
  std::vector<float> features = draw_features(kTypical, 1, random);
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    for (std::size_t i = 1; i < 17; ++i) {
      features[i] = kNan;
      const std::vector<float> got = evaluate(*network, features);
      features[i] = weights.mean[i - 1];
      CHECK(got == evaluate(*network, features));
    }
  }
}

TEST(network_with_overflowing_sums_gives_no_nan) {
  std::mt19937_64 random(9);
  NetworkWeights weights = draw_weights(kTypical, random);
  for (auto* values : {&weights.embedding, &weights.w1, &weights.w2, &weights.w3}) {
    for (float& value : *values) value *= 1e37f;
  }
  const std::vector<float> features = draw_features(kTypical, 100, random);
  for (const std::string_view kind : native_network_kinds()) {
    for (const float p : evaluate(*make_native_network(weights, kind), features)) {
      CHECK(p >= 0 && p <= 1);
    }
  }
}

TEST(network_sigmoid_is_accurate_to_1e6) {
  constexpr std::uint32_t kOutputs = 1741;
  std::mt19937_64 random(10);
  NetworkWeights weights = draw_weights({2, 1, 1, 1, 1, kOutputs}, random);
  std::fill(weights.w3.begin(), weights.w3.end(), 0.0f);
  for (std::uint32_t i = 0; i < kOutputs; ++i) {
    weights.b3[i] = (static_cast<float>(i) - 870) / 10;
  }
  for (const std::string_view kind : native_network_kinds()) {
    const std::vector<float> got = evaluate(*make_native_network(weights, kind), {0, 0});
    for (std::uint32_t i = 0; i < kOutputs; ++i) {
      const double expected = 1 / (1 + std::exp(-double{weights.b3[i]}));
      CHECK(std::abs(got[i] - expected) <= 1e-6 * expected);
    }
  }
}

TEST(network_reports_its_sizes) {
  std::mt19937_64 random(11);
  const NetworkWeights weights = draw_weights(kTypical, random);
  for (const std::string_view kind : native_network_kinds()) {
    const auto network = make_native_network(weights, kind);
    CHECK_EQ(network->features(), 17);
    CHECK_EQ(network->outputs(), 13);
    CHECK_EQ(network->kind(), kind);
    CHECK(network->bytes() > 4 * (26 * 32 + 16 * 32 + 32 * 16 + 16 * 13));
    CHECK(network->bytes() < 32 << 10);
  }
}

TEST(network_uses_the_best_instruction_set) {
  std::mt19937_64 random(12);
  const NetworkWeights weights = draw_weights(kTypical, random);
  CHECK_EQ(make_native_network(weights)->kind(), native_network_kinds().front());
  CHECK_THROWS(std::invalid_argument, make_native_network(weights, "sse9"),
               "kind: not supported by this machine; expected one of ");
  CHECK_THROWS(std::invalid_argument, make_native_network(weights, "sse9"), ", got sse9");
}

/// The error message for changed weights.
template <typename Change>
std::string error_of(Change change) {
  std::mt19937_64 random(13);
  NetworkWeights weights = draw_weights(kTypical, random);
  change(weights);
  try {
    make_native_network(weights);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST(network_with_too_small_sizes_throws) {
  using W = NetworkWeights;
  CHECK_EQ(error_of([](W& w) { w.features = 1; }),
           "features: too small; expected at least 2, got 1");
  CHECK_EQ(error_of([](W& w) { w.tables = 0; }), "tables: too small; expected at least 1, got 0");
  CHECK_EQ(error_of([](W& w) { w.embedding_dim = 0; }),
           "embedding_dim: too small; expected at least 1, got 0");
  CHECK_EQ(error_of([](W& w) { w.first = 0; }), "first: too small; expected at least 1, got 0");
  CHECK_EQ(error_of([](W& w) { w.second = 0; }), "second: too small; expected at least 1, got 0");
  CHECK_EQ(error_of([](W& w) { w.outputs = 0; }), "outputs: too small; expected at least 1, got 0");
}

TEST(network_with_inconsistent_sizes_throws) {
  using W = NetworkWeights;
  const auto check_error = [](std::vector<float> W::* field, const std::string& expected) {
    CHECK_EQ(error_of([&](W& w) { (w.*field).push_back(0); }), expected);
  };
  check_error(&W::mean, "mean: wrong number of values; expected 16 (1 x 16), got 17");
  check_error(&W::scale, "scale: wrong number of values; expected 16 (1 x 16), got 17");
  check_error(&W::embedding, "embedding: wrong number of values; expected 208 (26 x 8), got 209");
  check_error(&W::w1, "w1: wrong number of values; expected 768 (32 x 24), got 769");
  check_error(&W::b1, "b1: wrong number of values; expected 32 (1 x 32), got 33");
  check_error(&W::w2, "w2: wrong number of values; expected 512 (16 x 32), got 513");
  check_error(&W::b2, "b2: wrong number of values; expected 16 (1 x 16), got 17");
  check_error(&W::w3, "w3: wrong number of values; expected 208 (13 x 16), got 209");
  check_error(&W::b3, "b3: wrong number of values; expected 13 (1 x 13), got 14");
}

TEST(network_with_infinite_weights_throws) {
  using W = NetworkWeights;
  CHECK_EQ(error_of([](W& w) { w.w2[7] = kNan; }),
           "w2[7]: not finite; expected a finite number, got nan");
  CHECK_EQ(error_of([](W& w) { w.b3[12] = -kInfinity; }),
           "b3[12]: not finite; expected a finite number, got -inf");
  CHECK_EQ(error_of([](W& w) { w.bound = 0; }),
           "bound: invalid; expected a finite number above 0, got 0");
  CHECK_EQ(error_of([](W& w) { w.bound = kInfinity; }),
           "bound: invalid; expected a finite number above 0, got inf");
}

}  // namespace
