// shadow_tier.cpp: shadows against the simulator, and advice against what a list says.
#include "learn/shadow_tier.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "simulator.hpp"

namespace {

using namespace tieralloc;

/// Few rows often, many seldom.
std::vector<RowId> some_accesses(std::uint64_t seed, std::size_t n, RowId rows) {
  std::mt19937_64 random(seed);
  std::vector<RowId> accesses(n);
  for (RowId& row : accesses) row = random() % (1 + random() % rows);
  return accesses;
}

TEST(without_advice_a_shadow_does_what_the_simulator_does) {
  constexpr RowId kRows = 500;
  for (const std::string& policy : eviction_policy_names()) {
    for (const std::uint32_t capacity : {1u, 20u, 100u}) {
      ShadowTier shadow(policy, capacity, 7);
      Simulator simulator(
          make_eviction_policy(policy, {.capacity = capacity, .slots = capacity, .seed = 7}),
          capacity, kRows);
      const std::vector<RowId> accesses = some_accesses(capacity, 20000, kRows);
      for (const RowId row : accesses) shadow.access(row);
      simulator.run(accesses);
      CHECK_EQ(shadow.lookups(), accesses.size());
      CHECK_EQ(shadow.misses(), simulator.counts().on_demand_fetches);
      CHECK_EQ(shadow.evictions(), simulator.counts().evictions);
      CHECK_EQ(shadow.advised_evictions(), 0);
    }
  }
}

TEST(advised_to_do_what_lru_does_a_random_shadow_misses_what_lru_misses) {
  constexpr std::uint32_t kCapacity = 50;
  ShadowTier lru("lru", kCapacity, 1);
  ShadowTier advised("random", kCapacity, 1);
  std::vector<RowId> order;  // residents, the least recent first
  for (const RowId row : some_accesses(3, 20000, 300)) {
    const bool resident = std::erase(order, row) > 0;
    if (!resident && order.size() == kCapacity) {
      CHECK_EQ(advised.advise_evictions(std::span(order).first(1), 1), 1);
      order.erase(order.begin());
    }
    order.push_back(row);
    CHECK_EQ(lru.access(row), resident);
    CHECK_EQ(advised.access(row), resident);
  }
  CHECK_EQ(advised.evictions(), advised.advised_evictions());
}

TEST(a_sample_is_of_residents_that_are_not_advised) {
  ShadowTier shadow("lru", 40, 1);
  for (RowId row = 0; row < 100; ++row) shadow.access(row);
  CHECK_EQ(shadow.advise_evictions(std::vector<RowId>{98, 0, 99, 97}, 2), 2);  // row 0 has left
  std::vector<RowId> all;
  shadow.sample_residents(40, all);
  std::vector<RowId> some;
  for (int i = 0; i < 200; ++i) shadow.sample_residents(39, some);
  std::set<RowId> expected;
  for (RowId row = 60; row < 98; ++row) expected.insert(row);
  CHECK(std::set<RowId>(all.begin(), all.end()) == expected);
  CHECK(std::set<RowId>(some.begin(), some.end()) == expected);
}

TEST(what_is_fetched_ahead_counts_as_in_the_simulator) {
  constexpr RowId kRows = 500;
  for (const std::string& policy : eviction_policy_names()) {
    for (const std::uint32_t capacity : {1u, 20u, 100u}) {
      ShadowTier shadow(policy, capacity, 7);
      Simulator simulator(
          make_eviction_policy(policy, {.capacity = capacity, .slots = capacity, .seed = 7}),
          capacity, kRows);
      std::mt19937_64 random(capacity);
      for (const RowId row : some_accesses(capacity, 20000, kRows)) {
        shadow.access(row);
        simulator.run({&row, 1});
        const RowId ahead = (row + random() % 3) % kRows;
        shadow.prefetch(ahead);
        simulator.prefetch({&ahead, 1});
        CHECK_EQ(shadow.holds(ahead), simulator.slot_of(ahead) != kNoSlot);
      }
      CHECK_EQ(shadow.misses(), simulator.counts().on_demand_fetches);
      CHECK_EQ(shadow.evictions(), simulator.counts().evictions);
      CHECK_EQ(shadow.prefetches_issued(), simulator.counts().prefetches_issued);
      CHECK_EQ(shadow.prefetches_useful(), simulator.counts().prefetches_useful);
      CHECK_EQ(shadow.prefetches_useless(), simulator.counts().prefetches_useless);
    }
  }
}

TEST(a_row_fetched_ahead_is_drawn_once_it_was_used_or_has_had_time) {
  constexpr std::uint32_t kCapacity = 80;
  ShadowTier shadow("lru", kCapacity, 1);
  const auto is_drawn = [&](RowId row) {
    std::vector<RowId> all;
    shadow.sample_residents(kCapacity, all);
    return std::ranges::find(all, row) != all.end();
  };
  for (RowId row = 0; row < kCapacity; ++row) shadow.access(row);
  shadow.prefetch(1000);
  shadow.prefetch(1001);
  CHECK(!is_drawn(1000) && !is_drawn(1001));
  shadow.access(1000);
  CHECK(is_drawn(1000) && !is_drawn(1001));
  for (RowId row = 0; row < kCapacity / 8 - 1; ++row) shadow.access(2000 + row);
  CHECK(!is_drawn(1001));
  for (RowId row = 0; row < 2; ++row) shadow.access(3000 + row);
  CHECK(is_drawn(1001));
}

TEST(a_shadow_changes_its_policy_and_keeps_its_rows) {
  ShadowTier shadow("s3fifo", 30, 1);
  for (RowId row = 0; row < 30; ++row) shadow.access(row);
  shadow.use_policy("lru");
  for (RowId row = 30; row-- > 0;) CHECK(shadow.access(row));
  shadow.access(100);
  CHECK(shadow.access(0));
  CHECK(!shadow.access(29));
}

}  // namespace
