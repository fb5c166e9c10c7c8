// guided_simulator.cpp: decisions of models in a replay, against a cache of std containers.
#include "guided_simulator.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "eviction/naive_priority.hpp"

namespace {

using namespace tieralloc;

struct Case {
  std::vector<RowId> accesses;
  std::vector<std::uint8_t> keep;
  std::vector<RowId> prefetches;
  std::vector<std::uint64_t> offsets{0};
};

Case random_case(std::uint64_t seed, std::size_t length, std::uint64_t rows, std::uint32_t chunk) {
  std::mt19937_64 random(seed);
  Case made;
  for (std::size_t i = 0; i < length; ++i) made.accesses.push_back(random() % rows);
  for (std::size_t c = 0; c < length / chunk; ++c) {
    for (std::uint32_t i = 0; i < chunk; ++i) made.keep.push_back(random() % 2);
    for (std::uint64_t i = random() % 6; i > 0; --i) made.prefetches.push_back(random() % rows);
    made.offsets.push_back(made.prefetches.size());
  }
  return made;
}

/// By hand.
Counts replay(const Case& given, std::size_t capacity, std::uint32_t chunk, std::uint32_t speed,
              std::uint64_t count_from) {
  NaivePriority buffer(speed);
  std::set<RowId> resident, unused;
  Counts warm, counted;
  for (std::size_t i = 0; i < given.accesses.size(); ++i) {
    Counts& counts = i < count_from ? warm : counted;
    const auto admit = [&](RowId row, Counts& into) {
      if (resident.size() == capacity) {
        const RowId victim = buffer.evict();
        resident.erase(victim);
        into.prefetches_useless += unused.erase(victim);
        ++into.evictions;
      }
      resident.insert(row);
      buffer.insert(row);
    };
    const RowId row = given.accesses[i];
    ++counts.lookups;
    if (resident.contains(row)) {
      ++counts.hits;
      counts.prefetches_useful += unused.erase(row);
      buffer.touch(row);
    } else {
      ++counts.on_demand_fetches;
      admit(row, counts);
    }
    if ((i + 1) % chunk != 0) continue;
    for (std::size_t j = i + 1 - chunk; j <= i; ++j) {
      buffer.set(given.accesses[j], speed + given.keep[j]);
    }
    Counts& after = i + 1 < count_from ? warm : counted;
    for (std::size_t at = given.offsets[i / chunk]; at < given.offsets[i / chunk + 1]; ++at) {
      const RowId ahead = given.prefetches[at];
      if (resident.contains(ahead)) continue;
      ++after.prefetches_issued;
      admit(ahead, after);
      unused.insert(ahead);
    }
  }
  return counted;
}

TEST(decisions_take_effect_after_their_chunk_as_in_a_naive_buffer) {
  for (std::uint32_t chunk : {1u, 4u, 15u}) {
    for (std::uint32_t capacity : {1u, 3u, 30u, 99u, 200u}) {
      for (std::uint32_t speed : {0u, 1u, 4u}) {
        const Case given = random_case(capacity + speed, 1507, 100, chunk);
        const std::uint64_t count_from = capacity == 30 ? 0 : 600;
        GuidedSimulator simulator(capacity, 100, chunk, speed, count_from);
        simulator.run(given.accesses, given.keep, given.prefetches, given.offsets);
        const Counts found = simulator.counts();
        const Counts expected = replay(given, capacity, chunk, speed, count_from);
        CHECK_EQ(found.lookups, expected.lookups);
        CHECK_EQ(found.hits, expected.hits);
        CHECK_EQ(found.on_demand_fetches, expected.on_demand_fetches);
        CHECK_EQ(found.evictions, expected.evictions);
        CHECK_EQ(found.prefetches_issued, expected.prefetches_issued);
        CHECK_EQ(found.prefetches_useful, expected.prefetches_useful);
        CHECK_EQ(found.prefetches_useless, expected.prefetches_useless);
      }
    }
  }
}

TEST(rows_leave_in_the_order_of_their_standings) {
  constexpr std::uint32_t kCapacity = 30;
  const Case given = random_case(8, 600, 60, 15);
  GuidedSimulator simulator(kCapacity, 200, 15, 2);
  simulator.run(given.accesses, given.keep, given.prefetches, given.offsets);
  std::vector<RowId> rows(60);
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<double> before(60);
  simulator.write_standings(rows, before.data());
  CHECK_EQ(std::count(before.begin(), before.end(), -1), 60 - kCapacity);
  const std::vector<RowId> newcomers{100, 101, 102, 103, 104, 105, 106, 107};
  const std::vector<std::uint64_t> no_chunk{0};
  simulator.run(newcomers, {}, {}, no_chunk);
  std::vector<double> after(60);
  simulator.write_standings(rows, after.data());
  double left = -1, stayed = 9;
  for (std::size_t row = 0; row < 60; ++row) {
    if (before[row] == -1) continue;
    if (after[row] == -1) {
      left = std::max(left, before[row]);
    } else {
      stayed = std::min(stayed, before[row]);
    }
  }
  CHECK(left > -1 && left < stayed);
  CHECK_THROWS(std::out_of_range, simulator.write_standings(std::vector<RowId>{200}, after.data()),
               "row 200");
}

TEST(decisions_of_another_size_or_row_are_refused_and_nothing_is_replayed) {
  CHECK_THROWS(std::invalid_argument, GuidedSimulator(0, 10, 2, 4), "capacity is 0");
  CHECK_THROWS(std::invalid_argument, GuidedSimulator(1, 10, 0, 4), "chunk is 0");
  GuidedSimulator simulator(1, 10, 2, 4);
  const std::vector<RowId> accesses{1, 2, 3}, wrong{1, 10, 3};
  const std::vector<std::uint8_t> keep{1, 0}, short_keep{1};
  const std::vector<RowId> ahead{5}, wrong_ahead{10};
  const std::vector<std::uint64_t> offsets{0, 1}, short_offsets{0}, descending{3, 1};
  CHECK_THROWS(std::invalid_argument, simulator.run(accesses, short_keep, ahead, offsets),
               "decisions to keep are 1, expected 2");
  CHECK_THROWS(std::invalid_argument, simulator.run(accesses, keep, ahead, short_offsets),
               "offsets are 1, expected 2");
  CHECK_THROWS(std::invalid_argument, simulator.run(accesses, keep, ahead, descending), "descend");
  CHECK_THROWS(std::invalid_argument, simulator.run(accesses, keep, {}, offsets),
               "prefetches are 0, expected 1");
  CHECK_THROWS(std::out_of_range, simulator.run(wrong, keep, ahead, offsets), "row 10");
  CHECK_THROWS(std::out_of_range, simulator.run(accesses, keep, wrong_ahead, offsets), "row 10");
  CHECK_EQ(simulator.counts().lookups, 0);
}

}  // namespace
