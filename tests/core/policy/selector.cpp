// selector.cpp: choice of the active policy, and bounds on its delay.
#include "policy/selector.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "policy/fake_model.hpp"
#include "policy/value_ranking.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kCapacity = 1024;  // miniatures of 256 rows
constexpr std::uint32_t kMiniature = 256;
constexpr RowId kRows = 8000;

HistoryConfig history() {
  HistoryConfig config;
  config.table_starts = {0, kRows};
  config.remembered = 2 * kRows;
  return config;
}

struct Bench {
  std::shared_ptr<PolicyModel> trained;
  RowModel model;
  Selector selector;

  explicit Bench(Hazard hazard, std::vector<std::string> simple = {"s3fifo", "lru", "sieve"})
      : trained(fake_model(std::move(hazard))),
        model(*trained, history(), kCapacity),
        selector(model, kCapacity, kMiniature, kRows, std::move(simple), 5) {}

  /// True if the active policy changed.
  bool access(RowId row) {
    model.begin_sample();
    model.observe(row);
    return selector.is_sampled(row) && selector.access(row);
  }
};

TEST(selector_starts_with_the_learned_policy) {
  Bench bench(usual_hazard);
  CHECK(bench.selector.is_learned_active());
  CHECK_EQ(bench.selector.num_policies(), 4);
  CHECK_EQ(bench.selector.sample_rate(), 0.25);
  CHECK_EQ(bench.selector.name(1), "lru");
  CHECK(bench.selector.miss_ratios() == std::vector<double>(4));
}

TEST(selector_in_a_loop_never_activates_lru) {
  Bench bench(constant_hazard, {"lru"});
  for (int i = 0; i < 300000; ++i) CHECK(!bench.access(i % (2 * kCapacity)));
  CHECK(bench.selector.is_learned_active());
  CHECK_EQ(bench.selector.miss_ratios()[0], 1);
}

/// Misses of each policy, simulated without the selector.
struct Misses {
  std::vector<std::string> simple{"s3fifo", "lru", "sieve"};
  std::shared_ptr<PolicyModel> trained;
  RowModel model;
  std::vector<std::unique_ptr<Simulator>> simulators;
  std::vector<RowId> sampled;  ///< not simulated yet

  explicit Misses(Hazard hazard)
      : trained(fake_model(std::move(hazard))), model(*trained, history(), kCapacity) {
    const EvictionConfig config{.capacity = kMiniature, .slots = kMiniature, .seed = 5};
    for (const std::string& name : simple) add(make_eviction_policy(name, config));
    add(std::make_unique<ValueRanking>(config, model, false));
  }

  void add(std::unique_ptr<EvictionPolicy> policy) {
    const EvictionConfig config{.capacity = kMiniature, .slots = kMiniature};
    simulators.push_back(std::make_unique<Simulator>(std::move(policy), config, kRows));
  }

  void access(RowId row, bool is_sampled) {
    model.begin_sample();
    model.observe(row);
    if (is_sampled) sampled.push_back(row);
    if (sampled.size() < Selector::kBatch) return;
    for (auto& simulator : simulators) {
      for (const RowId each : sampled) simulator->access(each);
    }
    sampled.clear();
  }

  double of(std::size_t policy) const {
    return static_cast<double>(simulators[policy]->counts().on_demand_fetches);
  }
};

TEST(selector_leaves_a_useless_network_within_the_bound) {
  constexpr double kBound = 3 * Selector::kThreshold;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    // Rows accessed recently and often have the lowest value.
    const auto useless = [](const float* features) { return 1.0f - usual_hazard(features); };
    Bench bench(useless);
    Misses misses(useless);
    std::mt19937_64 random(seed);
    bool has_switched = false;
    for (int i = 0; i < 500000 && !has_switched; ++i) {
      const RowId row = skewed_row(random, kRows);
      has_switched = bench.access(row);
      misses.access(row, bench.selector.is_sampled(row));
      for (std::size_t policy = 0; policy < 3; ++policy) {
        const double excess = misses.of(3) - misses.of(policy) * (1 + Selector::kMargin);
        CHECK(excess < kBound + Selector::kBatch);
      }
    }
    CHECK(has_switched);
    CHECK(!bench.selector.is_learned_active());
    CHECK_EQ(bench.selector.switches(), 1);
  }
}

TEST(selector_returns_to_a_useful_network_within_the_bound) {
  bool is_useful = false;
  const auto hazard = [&](const float* features) {
    return is_useful ? usual_hazard(features) : 1.0f - usual_hazard(features);
  };
  Bench bench(hazard, {"lru"});
  std::mt19937_64 random(1);
  for (RowId i = 0; i < 500000 && bench.selector.is_learned_active(); ++i) {
    bench.access((i / 4 + random() % 800) % kRows);  // a window that advances
  }
  CHECK(!bench.selector.is_learned_active());
  is_useful = true;
  const std::uint64_t sampled = bench.selector.sampled();
  std::uint64_t accesses = 0;
  while (!bench.selector.is_learned_active() && accesses < 500000) {
    bench.access(accesses++ % (2 * kCapacity));
  }
  CHECK(bench.selector.is_learned_active());
  CHECK_EQ(bench.selector.switches(), 2);
  // LRU misses all accesses; the network misses half once the loop's rows are resident.
  CHECK(bench.selector.sampled() - sampled < 2 * Selector::kThreshold + 10 * kMiniature);
}

TEST(selector_counts_sampled_accesses) {
  Bench bench(usual_hazard);
  std::mt19937_64 random(2);
  std::uint64_t sampled = 0;
  for (int i = 0; i < 20000; ++i) {
    const RowId row = random() % kRows;
    sampled += bench.selector.is_sampled(row) ? 1 : 0;
    bench.access(row);
  }
  CHECK_EQ(bench.selector.sampled(), sampled);
  CHECK(sampled > 4000 && sampled < 6000);
  for (const double ratio : bench.selector.miss_ratios()) CHECK(ratio > 0.5 && ratio <= 1);
}

TEST(selector_of_a_tiny_tier_samples_all_rows) {
  const auto trained = fake_model(usual_hazard);
  for (std::uint32_t capacity : {1u, 2u, 16u}) {
    RowModel model(*trained, history(), capacity);
    Selector selector(model, capacity, Selector::miniature_rows(capacity), kRows, {"lru"}, 0);
    CHECK_EQ(selector.sample_rate(), 1);
    for (RowId row = 0; row < 1000; ++row) {
      CHECK(selector.is_sampled(row % 40));
      model.observe(row % 40);
      selector.access(row % 40);
    }
  }
}

}  // namespace
