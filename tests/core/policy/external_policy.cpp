// external_policy.cpp: effects of external decisions, and errors.
#include "policy/external_policy.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "eviction/naive_priority.hpp"
#include "policy/fake_model.hpp"
#include "sim/simulator.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kSpeed = 4;

struct Bench {
  FakeTier tier{8};
  std::vector<std::vector<RowId>> asked;
  ExternalDecisions answer;
  ExternalPolicy policy;

  explicit Bench(std::uint32_t chunk)
      : policy({.capacity = 8, .slots = 8}, one_table(10),
               {.eviction_speed = kSpeed, .chunk = chunk, .decide = [this](auto rows) {
                  asked.emplace_back(rows.begin(), rows.end());
                  return answer;
                }}) {}

  void insert(RowId row) { policy.insert(tier.add(row), row); }
  void observe(const std::vector<RowId>& rows) {
    policy.begin_sample();
    policy.observe(rows);
  }
  void step() {
    policy.collect(tier);
    policy.evaluate(tier);
    policy.apply(tier);
  }
  RowId evict() { return tier.take_out(policy.evict()); }
};

TEST(external_policy_decides_on_whole_chunks) {
  Bench bench(3);
  for (RowId row : {1, 2, 3, 4}) bench.insert(row);
  bench.observe({1, 2});
  bench.step();
  CHECK(bench.asked.empty());
  bench.observe({3, 4, 1, 2, 3});
  bench.answer.keep = {1, 0, 0, 0, 1, 0};
  bench.step();
  CHECK_EQ(bench.asked.size(), 1);
  CHECK(bench.asked[0] == (std::vector<RowId>{1, 2, 3, 4, 1, 2}));
  bench.step();
  CHECK_EQ(bench.asked.size(), 1);  // one access is left
  bench.observe({2, 1});
  bench.answer.keep = {0, 0, 0};
  bench.step();
  CHECK(bench.asked[1] == (std::vector<RowId>{3, 2, 1}));
}

TEST(external_policy_decisions_set_priorities) {
  Bench bench(4);
  for (RowId row : {1, 2, 3, 4, 5}) bench.insert(row);
  bench.observe({2, 1, 9, 4});  // 9 is not resident
  bench.answer.keep = {1, 0, 1, 1};
  bench.step();
  NaivePriority naive(kSpeed);
  for (RowId row : {1, 2, 3, 4, 5}) naive.insert(row);
  naive.set(2, kSpeed + 1);
  naive.set(1, kSpeed);
  naive.set(4, kSpeed + 1);
  for (int i = 0; i < 5; ++i) CHECK_EQ(bench.evict(), naive.evict());
}

TEST(external_policy_takes_effect_when_applied) {
  Bench bench(1);
  for (RowId row : {1, 2}) bench.insert(row);
  bench.observe({1});
  bench.answer.keep = {1};
  bench.policy.evaluate(bench.tier);
  CHECK_EQ(bench.evict(), 1);  // not applied yet
  bench.policy.apply(bench.tier);
  CHECK_EQ(bench.evict(), 2);
  CHECK_EQ(bench.policy.evict(), kNoSlot);
}

TEST(external_policy_take_prefetches_empties_them) {
  Bench bench(1);
  bench.observe({1});
  bench.answer = {{0}, {7, 5, 7}};
  bench.step();
  std::vector<RowId> rows{3};
  bench.policy.take_prefetches(rows);
  CHECK(rows == (std::vector<RowId>{3, 7, 5, 7}));
  rows.clear();
  bench.policy.take_prefetches(rows);
  CHECK(rows.empty());
}

TEST(external_policy_wrong_number_of_decisions_throws) {
  Bench bench(2);
  bench.insert(1);
  bench.observe({1, 1, 1, 1, 1});
  bench.answer.keep = {1, 0, 1};
  CHECK_THROWS(std::runtime_error, bench.step(), "decisions: expected 4, got 3");
  bench.answer.keep = {1, 0, 1, 0};
  bench.step();  // calls `decide` again
  CHECK_EQ(bench.asked.size(), 2);
  CHECK(bench.asked[0] == bench.asked[1]);
}

TEST(external_policy_errors_of_decide_propagate) {
  const auto throws = [](auto) -> ExternalDecisions { throw std::runtime_error("no model"); };
  ExternalPolicy policy({.capacity = 1, .slots = 1}, one_table(1), {.decide = throws});
  const FakeTier tier(1);
  policy.observe(std::vector<RowId>{0});
  CHECK_THROWS(std::runtime_error, policy.evaluate(tier), "no model");
}

TEST(external_policy_with_invalid_arguments_throws) {
  const auto make = [](ExternalOptions options) {
    options.decide = [](auto) { return ExternalDecisions{}; };
    return ExternalPolicy({.capacity = 4, .slots = 4}, {{0, 6, 10}, {2, 0}}, options).bytes();
  };
  CHECK_THROWS(std::invalid_argument, make({.chunk = 0}),
               "chunk: expected at least 1 access, got 0");
  CHECK_THROWS(std::invalid_argument, make({.eviction_speed = 255}), "");
  make({.eviction_speed = 254});
  CHECK_THROWS(std::invalid_argument, make({.table_starts = {0, 4, 9, 14}}),
               "table 2: expected 5 rows, got 6");
  CHECK_THROWS(std::invalid_argument, make({.table_starts = {0, 4, 9}}),
               "table 2: expected 0 rows, got 6");
  make({.table_starts = {0, 4, 9, 15}});
  const std::size_t bytes = make({});
  CHECK_EQ(make({.max_bytes = bytes}), bytes);
  CHECK_THROWS(std::invalid_argument, make({.max_bytes = bytes - 1}),
               "memory: expected at least " + std::to_string(bytes));
}

TEST(external_policy_bytes_include_its_share_of_the_model) {
  const auto bytes = [](const TierTables& tables, std::vector<RowId> starts) {
    return ExternalPolicy({.capacity = 4, .slots = 4}, tables,
                          {.decide = {}, .table_starts = std::move(starts), .model_bytes = 1500})
        .bytes();
  };
  const std::size_t alone = bytes(one_table(10), {});
  CHECK_EQ(alone - bytes({{0, 6, 10}, {2, 0}}, {0, 4, 9, 15}), 500);
}

/// The tier has tables 2 and 0; `decide` numbers the rows of tables 0, 1 and 2 in order.
TEST(external_policy_translates_rows_across_tables) {
  std::vector<RowId> asked;
  const auto decide = [&](std::span<const RowId> rows) {
    asked.assign(rows.begin(), rows.end());
    return ExternalDecisions{std::vector<std::uint8_t>(rows.size()), {3, 5, 9, 14}};
  };
  ExternalPolicy policy(
      {.capacity = 4, .slots = 4}, {{0, 6, 10}, {2, 0}},
      {.eviction_speed = kSpeed, .chunk = 4, .decide = decide, .table_starts = {0, 4, 9, 15}});
  const FakeTier tier(4);
  policy.observe(std::vector<RowId>{0, 5, 6, 9});
  policy.evaluate(tier);
  CHECK(asked == (std::vector<RowId>{9, 14, 0, 3}));
  std::vector<RowId> prefetches;
  policy.take_prefetches(prefetches);
  CHECK(prefetches == (std::vector<RowId>{9, 0, 5}));  // row 5 is of table 1
}

TEST(external_policy_prefetch_out_of_range_throws) {
  Bench bench(1);
  bench.observe({1});
  bench.answer = {{0}, {9, 10}};
  CHECK_THROWS(std::runtime_error, bench.step(), "prefetches: expected rows below 10, got 10");
}

TEST(external_policy_simulation_matches_naive_cache) {
  constexpr std::uint32_t kCapacity = 40;
  const auto keeps = [](RowId row) { return row % 3 == 0; };
  for (const std::uint32_t chunk : {1u, 7u, 64u}) {
    const auto decide = [&](std::span<const RowId> rows) {
      ExternalDecisions decisions;
      for (const RowId row : rows) decisions.keep.push_back(keeps(row) ? 1 : 0);
      return decisions;
    };
    const EvictionConfig config{.capacity = kCapacity, .slots = kCapacity};
    const MakePolicy make =
        make_external({.eviction_speed = kSpeed, .chunk = chunk, .decide = decide});
    Simulator simulator(make(config, one_table(200)), config, 200);
    NaivePriority naive(kSpeed);
    std::vector<RowId> pending;
    std::size_t resident = 0;
    std::mt19937_64 random(chunk);
    for (int i = 0; i < 20000; ++i) {
      const RowId row = skewed_row(random, 200);
      const bool is_hit = naive.contains(row);
      CHECK_EQ(simulator.access(row), is_hit);
      if (is_hit) {
        naive.touch(row);
      } else {
        if (resident == kCapacity) naive.evict();
        resident = std::min<std::size_t>(resident + 1, kCapacity);
        naive.insert(row);
      }
      pending.push_back(row);
      if (pending.size() < chunk) continue;
      for (const RowId seen : pending) naive.set(seen, keeps(seen) ? kSpeed + 1 : kSpeed);
      pending.clear();
    }
  }
}

TEST(external_policy_simulation_prefetches) {
  const auto decide = [](std::span<const RowId> rows) {
    ExternalDecisions decisions{std::vector<std::uint8_t>(rows.size()), {}};
    for (const RowId row : rows) decisions.prefetches.push_back((row + 1) % 100);
    return decisions;
  };
  const EvictionConfig config{.capacity = 10, .slots = 10};
  const MakePolicy make = make_external({.eviction_speed = 4, .decide = decide});
  Simulator simulator(make(config, one_table(100)), config, 100);
  for (int i = 0; i < 1000; ++i) simulator.access(i % 100);
  CHECK_EQ(simulator.counts().on_demand_fetches, 1);
  CHECK_EQ(simulator.counts().prefetches_issued, 1000);
  CHECK_EQ(simulator.counts().prefetches_useful, 999);
}

}  // namespace
