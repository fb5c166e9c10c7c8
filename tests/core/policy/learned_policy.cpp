// learned_policy.cpp: switches between policies, reserve, stats and bytes.
#include "policy/learned_policy.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "faults.hpp"
#include "policy/fake_model.hpp"
#include "sim/simulator.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kCapacity = 800;
constexpr std::uint32_t kRows = 4000;
constexpr RowId kLoop = 1600;

/// A network that predicts a high value for a part of a loop while it is useful.
struct LoopNetwork {
  bool is_useful = true;

  Hazard hazard() {
    return [this](const float* features) {
      if (!is_useful) return 1.0f - usual_hazard(features);
      return features[0] < 700 ? 0.9f : 0.001f;
    };
  }
};

TierTables tables_of_rows(std::uint32_t rows) {
  TierTables tables{table_per_row(rows).table_starts, {}};
  for (std::uint32_t row = 0; row < rows; ++row) tables.numbers.push_back(row);
  return tables;
}

struct Bench {
  FakeTier tier;
  std::uint32_t capacity;
  LearnedPolicy policy;
  std::vector<RowId> accesses;

  explicit Bench(Hazard hazard, std::uint32_t capacity = kCapacity, Slot spares = 8,
                 const LearnedOptions& options = {})
      : tier(capacity + spares),
        capacity(capacity),
        policy({.capacity = capacity, .slots = capacity + spares, .seed = 3},
               fake_model(std::move(hazard)), tables_of_rows(kRows), options) {}

  /// True for a hit.
  bool access(RowId row) {
    accesses.push_back(row);
    const Slot slot = tier.find_slot(row);
    if (slot != kNoSlot) {
      policy.touch({&slot, 1});
      return true;
    }
    if (tier.slots().size() == capacity) evict();
    policy.insert(tier.add(row), row);
    return false;
  }

  void evict() { tier.take_out(policy.evict()); }

  /// Observes the accesses since the last call.
  void observe() {
    for (const RowId& row : accesses) {
      policy.begin_sample();
      policy.observe({&row, 1});
    }
    accesses.clear();
  }

  void step() {
    bool more = false;
    do {
      more = policy.collect(tier);
      observe();
      policy.evaluate(tier);
      policy.apply(tier);
    } while (more);
    while (capacity - tier.slots().size() < policy.reserve()) evict();
  }

  void check_residents() {
    const std::size_t rows = tier.slots().size();
    for (std::size_t i = 0; i < rows; ++i) evict();
    CHECK_EQ(policy.evict(), kNoSlot);
    CHECK(tier.slots().empty());
  }
};

/// Makes the network useless, and accesses rows until a simple policy is active.
void leave_learned(Bench& bench, LoopNetwork& network, std::size_t step) {
  std::mt19937_64 random(1);
  network.is_useful = false;
  for (int i = 0; i < 400000 && bench.policy.stats().active == "learned"; ++i) {
    bench.access(skewed_row(random, kRows));
    if (i % step == 0) bench.step();
  }
  CHECK(bench.policy.stats().active != "learned");
}

void return_to_learned(Bench& bench, LoopNetwork& network, std::size_t step) {
  network.is_useful = true;
  for (int i = 0; i < 400000 && bench.policy.stats().active != "learned"; ++i) {
    bench.access(i % kLoop);
    if (i % step == 0) bench.step();
  }
  CHECK_EQ(bench.policy.stats().active, "learned");
}

TEST(learned_policy_keeps_residents_over_switches) {
  for (std::size_t step : {1u, 100u}) {
    LoopNetwork network;
    Bench bench(network.hazard());
    for (int round = 0; round < 2; ++round) {
      leave_learned(bench, network, step);
      CHECK(bench.tier.slots().size() + kCapacity / 32 >= kCapacity);
      return_to_learned(bench, network, step);
      CHECK(bench.tier.slots().size() + kCapacity / 32 >= kCapacity);
    }
    CHECK(bench.policy.stats().switches >= 4);
    bench.check_residents();
    leave_learned(bench, network, step);
    bench.check_residents();
  }
}

TEST(learned_policy_switched_twice_in_a_step_works) {
  LoopNetwork network;
  Bench bench(network.hazard());
  std::mt19937_64 random(2);
  for (int i = 0; i < 20000; ++i) {
    bench.access(skewed_row(random, kRows));
    if (i % 50 == 0) bench.step();
  }
  CHECK_EQ(bench.policy.stats().active, "learned");
  network.is_useful = false;
  for (int i = 0; i < 400000; ++i) bench.accesses.push_back(skewed_row(random, kRows));
  bench.observe();
  network.is_useful = true;
  for (int i = 0; i < 400000; ++i) bench.accesses.push_back(static_cast<RowId>(i) % kLoop);
  bench.step();
  CHECK(bench.policy.stats().switches >= 2);
  CHECK_EQ(bench.policy.stats().active, "learned");
  bench.check_residents();
}

TEST(learned_policy_notifies_the_simple_policy_of_hits) {
  LoopNetwork network;
  Bench bench(network.hazard());
  leave_learned(bench, network, 1);
  network.is_useful = false;
  std::mt19937_64 random(3);
  int hits = 0, hot_hits = 0;
  for (int i = 0; i < 40000; ++i) {
    // No simple policy evicts a row that is hit on every other access.
    hits += bench.access(skewed_row(random, kRows)) ? 1 : 0;
    hot_hits += bench.access(7) ? 1 : 0;
    bench.step();
  }
  CHECK(bench.policy.stats().active != "learned");
  CHECK(hot_hits > 39990);
  CHECK(hits > 20000);
}

TEST(learned_policy_moves_and_removes_in_every_state) {
  LoopNetwork network;
  Bench bench(network.hazard());
  std::mt19937_64 random(4);
  for (int round = 0; round < 4; ++round) {
    if (round % 2 == 1) leave_learned(bench, network, 20);
    if (round == 2) return_to_learned(bench, network, 20);
    for (int i = 0; i < 3000; ++i) {
      const Slot slot = bench.tier.find_slot(random() % kRows);
      if (slot == kNoSlot) continue;
      if (random() % 4 != 0) {
        bench.policy.move(slot, bench.tier.move(slot));
      } else {
        bench.policy.remove(slot);
        bench.tier.take_out(slot);
      }
      bench.access(random() % kRows);
    }
    bench.step();
  }
  bench.check_residents();
}

TEST(learned_policy_without_selection_never_switches) {
  LoopNetwork network;
  network.is_useful = false;
  Bench bench(network.hazard(), kCapacity, 0, {.selects = false});
  std::mt19937_64 random(5);
  for (int i = 0; i < 100000; ++i) {
    bench.access(skewed_row(random, kRows));
    bench.step();
  }
  const LearnedStats stats = bench.policy.stats();
  CHECK_EQ(stats.active, "learned");
  CHECK_EQ(stats.network, "fake");
  CHECK(stats.miss_ratios.empty());
  CHECK(stats.avoided() == (std::pair<std::string, double>{"", 0.0}));
}

TEST(learned_policy_reserve_is_bounded) {
  Bench bench(usual_hazard);
  std::mt19937_64 random(6);
  Slot highest = 0;
  for (int burst = 0; burst < 300; ++burst) {
    const std::uint64_t accesses = random() % 200;
    std::uint32_t inserted = 0;
    for (std::uint64_t i = 0; i < accesses; ++i) inserted += bench.access(random() % kRows) ? 0 : 1;
    bench.step();
    CHECK(bench.policy.reserve() <= kCapacity / 32);
    CHECK(bench.policy.reserve() >= std::min(inserted, kCapacity / 32));
    highest = std::max(highest, bench.policy.reserve());
  }
  CHECK_EQ(highest, kCapacity / 32);
  for (int idle = 0; idle < 500; ++idle) bench.step();
  CHECK_EQ(bench.policy.reserve(), 0);
  Bench tiny(usual_hazard, 20);
  for (RowId row = 0; row < 1000; ++row) {
    tiny.access(row);
    tiny.step();
    CHECK_EQ(tiny.policy.reserve(), 0);
  }
}

TEST(learned_policy_stats_lag_by_a_bounded_number) {
  Bench bench(usual_hazard);
  std::mt19937_64 random(7);
  std::uint64_t observed = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::uint64_t accesses = 1 + random() % 200;
    for (std::uint64_t n = 0; n < accesses; ++n) bench.access(skewed_row(random, kRows));
    observed += accesses;
    bench.step();
    CHECK(bench.policy.stats().observed + 1024 + 200 > observed);
  }
  const LearnedStats stats = bench.policy.stats();
  CHECK(stats.evaluations > 1000);
  CHECK(stats.sampled > 0 && stats.sampled < observed);
  CHECK_EQ(stats.miss_ratios.size(), 4);
  CHECK_EQ(stats.miss_ratios.back().first, "learned");
}

TEST(learned_policy_avoided_refers_to_the_best_simple_policy) {
  LearnedStats stats;
  CHECK(stats.avoided() == (std::pair<std::string, double>{"", 0.0}));
  stats.miss_ratios = {{"s3fifo", 0.5}, {"lru", 0.4}, {"learned", 0.3}};
  CHECK_EQ(stats.avoided().first, "lru");
  CHECK(std::abs(stats.avoided().second - 0.25) < 1e-9);
  stats.miss_ratios.back().second = 0.5;
  CHECK(std::abs(stats.avoided().second + 0.2) < 1e-9);
}

/// Bytes of the largest simple policy beyond the bytes that the ranking releases for it.
std::size_t largest_simple_policy(const EvictionConfig& config) {
  std::size_t largest = ValueRanking::slot_bytes(config);
  for (const std::string& name : simple_policies()) {
    largest = std::max(largest, eviction_policy_bytes(name, config));
  }
  return largest - ValueRanking::slot_bytes(config);
}

std::size_t live_bytes() {
  return faults::allocated_bytes() - faults::freed_bytes();
}

void check_bytes(std::uint32_t capacity, bool prefetches, bool selects) {
  const EvictionConfig config{.capacity = capacity, .slots = capacity + 100};
  const TierTables tables = one_table(20 * capacity);
  const auto model = fake_model(usual_hazard);
  if (prefetches) add_prefetching(*model, constant_hazard);
  const LearnedOptions options{.selects = selects};
  const std::size_t before = live_bytes();
  const auto policy = std::make_unique<LearnedPolicy>(config, model, tables, options);
  auto taken = static_cast<double>(live_bytes() - before);
  const auto stated = static_cast<double>(policy->bytes());
  CHECK_EQ(policy->bytes(), LearnedPolicy::bytes(config, *model, tables, options));
  // No simple policy is allocated yet. A miniature takes whole pages, and its index has room for
  // overflows that is not touched.
  if (selects) taken += static_cast<double>(largest_simple_policy(config));
  CHECK(taken < 1.01 * stated + 8000 + (selects ? 4 * 16384 : 0));
  CHECK(taken > 0.9 * stated);
}

TEST(learned_policy_bytes_cover_what_is_allocated) {
  for (const std::uint32_t capacity : {1000u, 50000u}) {
    for (const bool selects : {false, true}) {
      check_bytes(capacity, false, selects);
      check_bytes(capacity, true, selects);
    }
  }
}

TEST(learned_policy_bytes_cover_an_active_simple_policy) {
  const EvictionConfig config{.capacity = 20000, .slots = 20100};
  constexpr RowId kAll = 400000;
  // Rows accessed recently and often have the lowest value.
  const auto useless = [](const float* features) { return 1.0f - usual_hazard(features); };
  const std::size_t before = live_bytes();
  auto policy = std::make_unique<LearnedPolicy>(config, fake_model(useless), one_table(kAll),
                                                LearnedOptions{});
  const LearnedPolicy& learned = *policy;
  const std::size_t initial_bytes = live_bytes() - before;
  Simulator simulator(std::move(policy), config, kAll);
  const std::size_t simulator_bytes = live_bytes() - before - initial_bytes;
  std::mt19937_64 random(1);
  while (learned.stats().active == "learned") {
    for (int i = 0; i < 1000; ++i) simulator.access(skewed_row(random, kAll));
    CHECK(simulator.counts().lookups < 5'000'000);
  }
  const auto taken = static_cast<double>(live_bytes() - before - simulator_bytes);
  CHECK(taken < 1.01 * static_cast<double>(learned.bytes()) + 8000 + 4 * 4096);
}

TEST(learned_policy_default_bytes_are_per_row) {
  const auto model = fake_model(usual_hazard);
  const auto bytes = [&](std::uint32_t capacity) {
    const EvictionConfig config{.capacity = capacity, .slots = capacity + 100};
    return LearnedPolicy::bytes(config, *model, one_table(std::uint64_t{40} * capacity), {});
  };
  constexpr std::size_t kSmall = std::size_t{2} << 20, kPartners = std::size_t{64} << 20;
  CHECK(bytes(12'000) > 128 * 12'000 && bytes(12'000) <= kSmall);
  CHECK(bytes(1'000'000) <= 128'000'000 && bytes(1'000'000) > 90'000'000);
  add_prefetching(*model, constant_hazard);
  CHECK(bytes(12'000) > 0.99 * kPartners && bytes(12'000) <= kSmall + kPartners);
  CHECK(bytes(1'000'000) <= 512'000'000 && bytes(1'000'000) > 511'000'000);
}

TEST(learned_policy_max_bytes_limit_its_bytes) {
  const EvictionConfig config{.capacity = 1000, .slots = 1100};
  const TierTables tables = one_table(100000);
  const auto model = fake_model(usual_hazard);
  const auto bytes = [&](std::size_t max_bytes) {
    return LearnedPolicy(config, model, tables, {.max_bytes = max_bytes}).bytes();
  };
  const std::size_t wanted = bytes(0);
  CHECK_EQ(bytes(wanted), wanted);
  CHECK_EQ(bytes(10 * wanted), wanted);
  std::string message;
  try {
    bytes(1);
  } catch (const std::invalid_argument& error) {
    message = error.what();
  }
  const std::string begin = "memory: expected at least ";
  CHECK_EQ(message.find(begin), 0);
  CHECK(message.ends_with(" for a fast tier of 1000 rows, got 1"));
  const std::size_t min_bytes = std::stoul(message.substr(begin.size()));
  CHECK(min_bytes < wanted);
  CHECK_THROWS(std::invalid_argument, bytes(min_bytes - 1), std::to_string(min_bytes));
  std::size_t last = 0;
  for (std::size_t max_bytes = min_bytes; max_bytes < wanted; max_bytes += 97) {
    const std::size_t got = bytes(max_bytes);
    CHECK(got <= max_bytes && got + 2000 + 2 * kPage >= max_bytes && got >= last);
    last = got;
  }
  const auto rate = [&](std::size_t max_bytes) {
    return LearnedPolicy(config, model, tables, {.max_bytes = max_bytes}).stats().sample_rate;
  };
  CHECK(rate(wanted) > 0.24 && rate(min_bytes) < 0.07);
}

TEST(learned_policy_finds_the_context_tables_of_its_tier) {
  const auto model = fake_model(usual_hazard);
  model->contexts = {4, 9};
  const EvictionConfig config{.capacity = 100, .slots = 100};
  // Table 9 is the tier's second table; table 4 is in another tier.
  const TierTables tables{{0, 50, 200}, {1, 9}};
  LearnedPolicy policy(config, model, tables, {});
  policy.begin_sample();
  policy.observe(std::vector<RowId>{10, 60});
  const auto none = fake_model(usual_hazard);
  CHECK(LearnedPolicy::bytes(config, *model, tables, {}) >
        LearnedPolicy::bytes(config, *none, tables, {}));
}

TEST(learned_policy_beats_lru_in_a_learned_loop) {
  LoopNetwork network;
  const EvictionConfig config{.capacity = kCapacity, .slots = kCapacity};
  Simulator learned(make_learned(fake_model(network.hazard()), {})(config, tables_of_rows(kRows)),
                    config, kRows, 100000);
  for (int i = 0; i < 200000; ++i) learned.access(i % kLoop);
  // About 700 of the loop's 1600 rows stay resident.
  CHECK(learned.counts().hits > 40000);
}

TEST(make_learned_with_wrong_network_sizes_throws) {
  const auto model = fake_model(usual_hazard);
  model->intervals.pop_back();
  CHECK_THROWS(std::invalid_argument,
               make_learned(model, {})({.capacity = 10, .slots = 10}, one_table(100)),
               "caching model: expected 20 features and 8 outputs, got 20 and 9");
}

/// Copies the memory of a policy into another one, which goes on from there.
void copy_memory(LearnedPolicy& from, LearnedPolicy& to) {
  const PlannerMemory source = from.memory(), target = to.memory();
  CHECK_EQ(source.key, target.key);
  CHECK_EQ(source.parts.size(), target.parts.size());
  for (std::size_t i = 0; i < source.parts.size(); ++i) {
    CHECK_EQ(source.parts[i].size(), target.parts[i].size());
    std::ranges::copy(source.parts[i], target.parts[i].begin());
  }
  to.adopt_memory();
}

/// Hits of accesses to a fresh tier that holds all rows of another one.
int hits_after_a_change(Bench& bench, const Bench& former, std::mt19937_64 random) {
  for (const auto& [row, slot] : former.tier.slots()) bench.policy.insert(bench.tier.add(row), row);
  int hits = 0;
  for (int i = 0; i < 2000; ++i) {
    hits += bench.access(skewed_row(random, kRows)) ? 1 : 0;
    bench.step();
  }
  return hits;
}

TEST(learned_policy_with_the_memory_of_another_decides_as_well) {
  const LearnedOptions options{.selects = false};
  Bench former(usual_hazard, kCapacity, 8, options);
  Bench with(usual_hazard, kCapacity, 8, options), without(usual_hazard, kCapacity, 8, options);
  std::mt19937_64 random(8);
  int hits = 0;
  for (int i = 0; i < 40000; ++i) {
    const bool hit = former.access(skewed_row(random, kRows));
    hits += hit && i >= 20000 ? 1 : 0;
    former.step();
  }
  copy_memory(former.policy, with.policy);
  const int expected = hits / 10;  // of 2000 accesses
  CHECK(hits_after_a_change(with, former, random) > 0.98 * expected);
  CHECK(hits_after_a_change(without, former, random) < 0.98 * expected);
  with.check_residents();
}

TEST(learned_policy_takes_over_the_active_policy) {
  LoopNetwork network;
  Bench former(network.hazard()), bench(network.hazard());
  leave_learned(former, network, 20);
  for (RowId row = 0; row < kCapacity; ++row) bench.access(row);
  bench.step();
  CHECK_EQ(bench.policy.stats().active, "learned");
  network.is_useful = true;  // the fingerprint is that of the hazards
  copy_memory(former.policy, bench.policy);
  bench.step();
  CHECK_EQ(bench.policy.stats().active, former.policy.stats().active);
  CHECK(bench.tier.slots().size() + kCapacity / 32 >= kCapacity);
  Bench fresh(network.hazard());
  copy_memory(fresh.policy, bench.policy);
  bench.step();
  CHECK_EQ(bench.policy.stats().active, "learned");
  bench.check_residents();
}

TEST(learned_policy_memory_key_names_what_the_memory_depends_on) {
  const auto key = [](std::uint32_t capacity, RowId rows, const Hazard& hazard,
                      const LearnedOptions& options) {
    return LearnedPolicy({.capacity = capacity, .slots = capacity}, fake_model(hazard),
                         one_table(rows), options)
        .memory()
        .key;
  };
  const std::string expected = key(100, 1000, usual_hazard, {});
  CHECK(!expected.empty());
  CHECK_EQ(key(100, 1000, usual_hazard, {}), expected);
  CHECK(key(101, 1000, usual_hazard, {}) != expected);
  CHECK(key(100, 1001, usual_hazard, {}) != expected);
  CHECK(key(100, 1000, constant_hazard, {}) != expected);
  CHECK(key(100, 1000, usual_hazard, {.selects = false}) != expected);
}

}  // namespace
