// prefetcher.cpp: choices and throttling of Prefetcher, with functions as networks.
#include "policy/prefetcher.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "policy/fake_model.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kRows = 100;
constexpr std::uint32_t kCapacity = 4096;
constexpr RowId kLast = CoOccurrence::kWindow;  // rows up to it are partners of row 0

std::shared_ptr<PolicyModel> prefetch_model(Hazard hazard) {
  auto model = fake_model(constant_hazard);
  add_prefetching(*model, std::move(hazard));
  return model;
}

struct Bench {
  std::uint64_t scored = 0;
  RowHistory history{table_per_row(kRows)};
  FakeTier tier{kRows};
  Prefetcher prefetcher;

  /// The rows up to kLast are partners; none is resident.
  Bench(double cost, const Hazard& hazard, bool whole_samples = false)
      : prefetcher(*prefetch_model([this, hazard](const float* features) {
          ++scored;
          return hazard(features);
        }),
                   kCapacity, 4 * kRows, {.prefetch_cost = cost, .whole_samples = whole_samples}) {
    begin_sample();
    for (RowId row = 0; row <= kLast; ++row) {
      tier.add(row);
      observe(row, true);
    }
    CHECK(choose().empty());  // all resident
    for (RowId row = 0; row <= kLast; ++row) tier.take_out(tier.find_slot(row));
  }

  void begin_sample() {
    history.begin_sample();
    prefetcher.begin_sample();
  }
  void observe(RowId row, bool is_cold) {
    history.observe(row);
    prefetcher.observe(row, is_cold ? kPrefetchHorizon : kPrefetchHorizon - 1);
  }
  /// Accesses without candidates.
  void pass(std::uint64_t accesses) {
    for (; accesses > 0; --accesses) observe(kRows - 1, false);
  }
  std::vector<RowId> choose() {
    prefetcher.evaluate(history, tier);
    std::vector<RowId> rows;
    prefetcher.take(rows);
    std::ranges::sort(rows);
    return rows;
  }
  /// Returns the rows chosen for a cold access to row 0.
  std::vector<RowId> access() {
    begin_sample();
    observe(0, true);
    return choose();
  }
};

std::vector<RowId> rows_in(RowId first, RowId last) {
  std::vector<RowId> rows;
  for (RowId row = first; row <= last; ++row) rows.push_back(row);
  return rows;
}

float sure_hazard(const float*) {
  return 1;
}

/// A hazard of a tenth of the row's number.
float hazard_by_row(const float* features) {
  return std::min(features[0] / 10, 1.0f);
}

TEST(prefetcher_chooses_chances_that_reach_the_cost) {
  for (RowId first = 1; first <= kLast; ++first) {
    // The chance of a use in three intervals.
    const double chance = 1 - std::pow(1 - static_cast<double>(first) / 10, 3);
    Bench bench(chance - 1e-3, hazard_by_row);
    CHECK(bench.access() == rows_in(first, kLast));
    CHECK_EQ(bench.scored, kLast);
    CHECK_EQ(bench.prefetcher.stats().scored, kLast);
    CHECK_EQ(bench.prefetcher.stats().chosen, kLast + 1 - first);
    CHECK(Bench(chance + 1e-3, hazard_by_row).access() == rows_in(first + 1, kLast));
  }
}

TEST(prefetcher_of_whole_samples_ignores_uses_in_the_sample) {
  // The chance of a use in two intervals.
  const double chance = 1 - std::pow(1 - 0.5, 2);
  CHECK(Bench(chance - 1e-3, hazard_by_row, true).access() == rows_in(5, kLast));
  CHECK(Bench(chance + 1e-3, hazard_by_row, true).access() == rows_in(6, kLast));
}

TEST(prefetcher_without_cost_chooses_all_without_scoring) {
  Bench bench(0, [](const float*) -> float { throw std::logic_error("scored"); });
  for (int i = 0; i < 3; ++i) CHECK(bench.access() == rows_in(1, kLast));
  CHECK_EQ(bench.prefetcher.stats().scored, 0);
  CHECK_EQ(bench.prefetcher.stats().chosen, 3 * kLast);
  bench.tier.add(2);
  CHECK_EQ(bench.access().size(), kLast - 1);
}

TEST(prefetcher_ignores_accesses_that_are_not_cold) {
  Bench bench(0.1, sure_hazard);
  bench.begin_sample();
  bench.observe(0, false);
  CHECK(bench.choose().empty());
  CHECK_EQ(bench.scored, 0);
}

TEST(prefetcher_omits_resident_rows) {
  Bench bench(0.1, sure_hazard);
  for (RowId row : {1, 2, 3}) bench.tier.add(row);
  CHECK(bench.access() == rows_in(4, kLast));
  CHECK_EQ(bench.scored, kLast - 3);
}

TEST(prefetcher_omits_recently_prefetched_rows) {
  Bench bench(0.1, sure_hazard);
  CHECK(bench.access() == rows_in(1, kLast));
  CHECK(bench.access().empty());
  bench.pass(kPrefetchHorizon - 3);
  CHECK(bench.access().empty());
  CHECK(bench.access() == rows_in(1, kLast));
}

TEST(prefetcher_take_empties_its_choice) {
  Bench bench(0.1, sure_hazard);
  bench.begin_sample();
  bench.observe(0, true);
  bench.prefetcher.evaluate(bench.history, bench.tier);
  std::vector<RowId> rows{42};
  bench.prefetcher.take(rows);
  CHECK_EQ(rows.size(), 1 + kLast);
  CHECK_EQ(rows[0], 42);
  bench.prefetcher.take(rows);
  CHECK_EQ(rows.size(), 1 + kLast);
  CHECK(bench.choose().empty());
}

TEST(prefetcher_scales_chances_by_uses) {
  Bench bench(0.5, sure_hazard);
  std::uint32_t chosen = 0;
  std::size_t rows = kLast;
  for (; rows > 0 && chosen < 1000; chosen += rows) {
    rows = bench.access().size();
    bench.pass(kPrefetchHorizon);
  }
  CHECK_EQ(rows, 0);
  // The prior is 64 uses.
  CHECK(chosen >= 64 && chosen < 64 + 4 * kLast);
  CHECK(bench.prefetcher.stats().calibration < 0.5);
  bench.prefetcher.record_outcomes({.used = chosen});
  CHECK(bench.access() == rows_in(1, kLast));
  CHECK(bench.prefetcher.stats().calibration > 0.9);
}

void check_throttle(Bench& bench, std::uint64_t accesses) {
  bench.pass(accesses - 1);
  CHECK(bench.access().empty());
  CHECK(bench.access() == rows_in(1, kLast));
}

TEST(prefetcher_losses_throttle_it) {
  Bench bench(0, sure_hazard);
  CHECK(!bench.prefetcher.record_outcomes({.displaced = 127}));
  CHECK(!bench.prefetcher.record_outcomes({.used = 10}));
  CHECK(!bench.prefetcher.record_outcomes({.displaced = 10}));
  CHECK_EQ(bench.access().size(), kLast);
  CHECK(bench.prefetcher.record_outcomes({.displaced = 1}));
  CHECK(!bench.prefetcher.record_outcomes({.displaced = 1}));
  CHECK(bench.prefetcher.stats().is_throttled);
  check_throttle(bench, 1 << 13);
  CHECK(!bench.prefetcher.record_outcomes({}));
  const PrefetchStats& stats = bench.prefetcher.stats();
  CHECK(!stats.is_throttled);
  CHECK_EQ(stats.throttles, 1);
  CHECK_EQ(stats.used, 10);
  CHECK_EQ(stats.displaced, 139);
}

TEST(prefetcher_throttling_doubles_until_a_gain) {
  Bench bench(0, sure_hazard);
  for (const std::uint64_t expected : {1 << 13, 1 << 14, 1 << 15}) {
    CHECK(bench.prefetcher.record_outcomes({.displaced = 128}));
    check_throttle(bench, expected);
  }
  bench.prefetcher.record_outcomes({.used = 512});
  CHECK(bench.prefetcher.record_outcomes({.displaced = 128}));
  check_throttle(bench, 1 << 13);
}

TEST(prefetcher_losses_while_throttled_do_not_count) {
  Bench bench(0, sure_hazard);
  CHECK(bench.prefetcher.record_outcomes({.displaced = 128}));
  CHECK(!bench.prefetcher.record_outcomes({.displaced = 1000}));
  check_throttle(bench, 1 << 13);
  CHECK(!bench.prefetcher.record_outcomes({.displaced = 127}));
  CHECK(bench.prefetcher.record_outcomes({.displaced = 1}));
}

TEST(prefetcher_loss_threshold_grows_with_the_tier) {
  Prefetcher prefetcher(*prefetch_model(sure_hazard), 64 * 200, kRows, {});
  CHECK(!prefetcher.record_outcomes({.displaced = 199}));
  CHECK(prefetcher.record_outcomes({.displaced = 1}));
}

TEST(prefetcher_losses_include_prefetch_and_scoring_costs) {
  Bench bench(0.5, sure_hazard);
  std::uint32_t chosen = 0;
  for (bool is_throttled = false; !is_throttled; bench.pass(kPrefetchHorizon)) {
    CHECK(bench.access() == rows_in(1, kLast));
    chosen += kLast;
    is_throttled = bench.prefetcher.record_outcomes({.used = kLast, .displaced = kLast});
    CHECK_EQ(is_throttled, chosen * 0.5003 >= 128);
  }
}

TEST(prefetcher_with_wrong_network_sizes_throws) {
  auto model = prefetch_model(sure_hazard);
  model->prefetch = [] { return std::make_unique<FakeNetwork>(sure_hazard, 4); };
  CHECK_THROWS(std::invalid_argument, Prefetcher(*model, 10, 10, {.prefetch_cost = 1}),
               "prefetch model: expected 26 features and 4 outputs, got 20 and 4");
}

TEST(prefetcher_drops_candidates_beyond_its_capacity) {
  Bench bench(0, sure_hazard);
  for (int i = 0; i < 2000; ++i) {
    bench.begin_sample();
    bench.observe(0, true);
  }
  const std::size_t chosen = bench.choose().size();
  CHECK(chosen > 0 && chosen <= 4096 + CoOccurrence::kPartners);
}

}  // namespace
