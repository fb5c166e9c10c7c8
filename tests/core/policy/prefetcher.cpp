// prefetcher.cpp: which candidates a Prefetcher chooses, with networks that are functions.
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

  /// Knows the rows up to kLast as partners; none of them is resident.
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
  /// What is chosen for a cold access to row 0.
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

/// A tenth of the row's number.
float hazard_by_row(const float* features) {
  return std::min(features[0] / 10, 1.0f);
}

TEST(prefetcher_chooses_chances_that_reach_the_cost) {
  for (RowId first = 1; first <= kLast; ++first) {
    // Of a use in one of three intervals.
    const double chance = 1 - std::pow(1 - static_cast<double>(first) / 10, 3);
    Bench bench(chance - 1e-3, hazard_by_row);
    CHECK(bench.access() == rows_in(first, kLast));
    CHECK_EQ(bench.scored, kLast);
    CHECK_EQ(bench.prefetcher.stats().scored, kLast);
    CHECK_EQ(bench.prefetcher.stats().chosen, kLast + 1 - first);
    CHECK(Bench(chance + 1e-3, hazard_by_row).access() == rows_in(first + 1, kLast));
  }
}

TEST(prefetcher_leaves_out_the_rest_of_a_sample_that_is_looked_up_whole) {
  // Of a use in one of two intervals.
  const double chance = 1 - std::pow(1 - 0.5, 2);
  CHECK(Bench(chance - 1e-3, hazard_by_row, true).access() == rows_in(5, kLast));
  CHECK(Bench(chance + 1e-3, hazard_by_row, true).access() == rows_in(6, kLast));
}

TEST(prefetcher_of_no_cost_chooses_all_without_the_network) {
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
  // 64 uses are taken for granted.
  CHECK(chosen >= 64 && chosen < 64 + 4 * kLast);
  CHECK(bench.prefetcher.stats().calibration < 0.5);
  bench.prefetcher.note({.used = chosen});
  CHECK(bench.access() == rows_in(1, kLast));
  CHECK(bench.prefetcher.stats().calibration > 0.9);
}

void check_pause(Bench& bench, std::uint64_t accesses) {
  bench.pass(accesses - 1);
  CHECK(bench.access().empty());
  CHECK(bench.access() == rows_in(1, kLast));
}

TEST(prefetcher_losses_pause_it) {
  Bench bench(0, sure_hazard);
  CHECK(!bench.prefetcher.note({.displaced = 127}));
  CHECK(!bench.prefetcher.note({.used = 10}));
  CHECK(!bench.prefetcher.note({.displaced = 10}));
  CHECK_EQ(bench.access().size(), kLast);
  CHECK(bench.prefetcher.note({.displaced = 1}));
  CHECK(!bench.prefetcher.note({.displaced = 1}));
  CHECK(bench.prefetcher.stats().is_throttled);
  check_pause(bench, 1 << 13);
  CHECK(!bench.prefetcher.note({}));
  const PrefetchStats& stats = bench.prefetcher.stats();
  CHECK(!stats.is_throttled);
  CHECK_EQ(stats.throttles, 1);
  CHECK_EQ(stats.used, 10);
  CHECK_EQ(stats.displaced, 139);
}

TEST(prefetcher_pauses_double_until_it_gains) {
  Bench bench(0, sure_hazard);
  for (const std::uint64_t expected : {1 << 13, 1 << 14, 1 << 15}) {
    CHECK(bench.prefetcher.note({.displaced = 128}));
    check_pause(bench, expected);
  }
  bench.prefetcher.note({.used = 512});
  CHECK(bench.prefetcher.note({.displaced = 128}));
  check_pause(bench, 1 << 13);
}

TEST(prefetcher_adds_up_no_losses_while_it_pauses) {
  Bench bench(0, sure_hazard);
  CHECK(bench.prefetcher.note({.displaced = 128}));
  CHECK(!bench.prefetcher.note({.displaced = 1000}));
  check_pause(bench, 1 << 13);
  CHECK(!bench.prefetcher.note({.displaced = 127}));
  CHECK(bench.prefetcher.note({.displaced = 1}));
}

TEST(prefetcher_of_a_large_tier_pauses_after_larger_losses) {
  Prefetcher prefetcher(*prefetch_model(sure_hazard), 64 * 200, kRows, {});
  CHECK(!prefetcher.note({.displaced = 199}));
  CHECK(prefetcher.note({.displaced = 1}));
}

TEST(prefetcher_prefetches_and_scoring_cost_as_well) {
  Bench bench(0.5, sure_hazard);
  std::uint32_t chosen = 0;
  for (bool has_paused = false; !has_paused; bench.pass(kPrefetchHorizon)) {
    CHECK(bench.access() == rows_in(1, kLast));
    chosen += kLast;
    has_paused = bench.prefetcher.note({.used = kLast, .displaced = kLast});
    CHECK_EQ(has_paused, chosen * 0.5003 >= 128);
  }
}

TEST(prefetcher_refuses_a_network_of_other_sizes) {
  auto model = prefetch_model(sure_hazard);
  model->prefetch = [] { return std::make_unique<FakeNetwork>(sure_hazard, 4); };
  CHECK_THROWS(std::invalid_argument, Prefetcher(*model, 10, 10, {.prefetch_cost = 1}),
               "prefetch model: expected 26 features and 4 outputs, got 20 and 4");
}

TEST(prefetcher_drops_candidates_that_are_too_many) {
  Bench bench(0, sure_hazard);
  for (int i = 0; i < 2000; ++i) {
    bench.begin_sample();
    bench.observe(0, true);
  }
  const std::size_t chosen = bench.choose().size();
  CHECK(chosen > 0 && chosen <= 4096 + CoOccurrence::kPartners);
}

TEST(candidates_of_a_sample_are_gathered_once_each) {
  Candidates candidates(100);
  std::vector<Candidates::Candidate> found;
  const auto observe = [&](const std::vector<RowId>& rows) {
    candidates.begin_sample();
    for (const RowId row : rows) candidates.observe(row, kPrefetchHorizon, found);
  };
  observe({1, 2, 3, 9});
  found.clear();
  observe({1, 2});
  CHECK_EQ(found.size(), 4);  // 2, 3 and 9 of row 1, and 1 of row 2
  CHECK_EQ(found[1].row, 3);
  CHECK_EQ(found[1].votes, 2);
  CHECK_EQ(found[1].position, 2);
  observe({1});
  CHECK_EQ(found.size(), 7);  // another sample
}

TEST(candidates_have_their_features) {
  Candidates candidates(100);
  std::vector<Candidates::Candidate> found;
  const auto observe = [&](const std::vector<RowId>& rows) {
    candidates.begin_sample();
    for (const RowId row : rows) {
      found.clear();
      candidates.observe(row, kPrefetchHorizon, found);
    }
    std::ranges::sort(found, {}, &Candidates::Candidate::row);
  };
  observe({1, 2, 3});
  observe({1, 4});
  observe({2, 1});
  CHECK_EQ(found.size(), 3);  // the partners of row 1, accessed 3 times
  CHECK_EQ(found[0].row, 2);
  CHECK_EQ(found[0].times, 2);
  CHECK_EQ(found[0].accesses, 3);
  CHECK(std::abs(found[0].share - 2.0f / 3) < 1e-6f);
  CHECK_EQ(found[0].votes, 1);
  CHECK_EQ(found[0].position, 2);
  CHECK_EQ(found[1].row, 3);
  CHECK_EQ(found[1].votes, 2);  // a partner of row 2 as well
  CHECK(std::abs(found[1].confidence - (1.0f / 2 + 1.0f / 3)) < 1e-6f);
  CHECK_EQ(found[2].row, 4);
  CHECK_EQ(candidate_feature_names().size(), kCandidateFeatures - kRowFeatures);
  RowHistory history(table_per_row(kRows));
  history.begin_sample();
  history.observe(3);
  std::vector<float> features(kCandidateFeatures), row(kRowFeatures);
  Candidates::write_features(history, std::span(found).subspan(1, 1), features.data());
  const RowId third = 3;
  history.write_features({&third, 1}, row.data());
  CHECK(std::equal(row.begin(), row.end(), features.begin()));
  const float expected[] = {std::log2(1.0f / 3), 1, 2, std::log2(3.0f), std::log2(5.0f / 6),
                            std::log2(3.0f)};
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    CHECK(std::abs(features[kRowFeatures + i] - expected[i]) < 0.01f);
  }
}

}  // namespace
