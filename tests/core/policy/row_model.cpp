// row_model.cpp: a model that takes over the memory of another one.
#include "policy/row_model.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "check.hpp"
#include "policy/fake_model.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kRows = 300;
constexpr std::uint32_t kCapacity = 64;

HistoryConfig with_contexts() {
  HistoryConfig config = table_per_row(kRows);
  config.contexts = {0, 7};
  config.samples = 100;
  return config;
}

/// Observes accesses and predicts values, which outcomes then correct.
void train(RowModel& model, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Curve> curves;
  for (int i = 0; i < 30000; ++i) {
    if (i % 4 == 0) model.begin_sample();
    const RowId row = skewed_row(random, kRows);
    model.observe(row);
    if (i % 8 != 0) continue;
    curves.clear();
    model.evaluate({&row, 1}, curves);
    model.predict(row, curves[0]);
  }
}

/// The corrected value of each row.
std::vector<Value> values_of(RowModel& model) {
  std::vector<RowId> rows(kRows);
  std::iota(rows.begin(), rows.end(), RowId{0});
  std::vector<Curve> curves;
  model.evaluate(rows, curves);
  std::vector<Value> values;
  for (const Curve& curve : curves) values.push_back(model.value(curve));
  return values;
}

TEST(row_model_with_the_memory_of_another_gives_its_values) {
  const auto trained = fake_model(usual_hazard);
  RowModel from(*trained, with_contexts(), kCapacity), to(*trained, with_contexts(), kCapacity);
  train(from, 1);
  train(to, 2);
  CHECK(values_of(to) != values_of(from));
  std::vector<std::span<std::byte>> source, target;
  from.add_memory(source);
  to.add_memory(target);
  CHECK_EQ(source.size(), target.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    std::ranges::copy(source[i], target[i].begin());
  }
  to.adopt_memory();
  CHECK(values_of(to) == values_of(from));
  from.adopt_memory();  // drops its predictions
  for (RowModel* model : {&from, &to}) {
    for (RowId row = 0; row < 50; ++row) model->observe(row);
  }
  CHECK(values_of(to) == values_of(from));
}

TEST(row_model_fingerprint_is_that_of_the_network) {
  const auto fingerprint = [](const Hazard& hazard) {
    return RowModel(*fake_model(hazard), table_per_row(kRows), kCapacity).fingerprint();
  };
  CHECK_EQ(fingerprint(usual_hazard), fingerprint(usual_hazard));
  CHECK(fingerprint(usual_hazard) != fingerprint(constant_hazard));
}

}  // namespace
