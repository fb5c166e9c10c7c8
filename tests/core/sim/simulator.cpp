// simulator.cpp: counts of replays against a naive cache of standard containers.
#include "sim/simulator.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>

#include "check.hpp"
#include "eviction/naive.hpp"
#include "sim/belady.hpp"
#include "sim/row_pages.hpp"

namespace {

using namespace tieralloc;

std::vector<RowId> random_trace(std::uint64_t seed, std::size_t length, std::uint64_t rows) {
  std::mt19937_64 random(seed);
  std::vector<RowId> trace;
  for (std::size_t i = 0; i < length; ++i) {
    const RowId row = random() % rows;
    trace.push_back(random() % 2 == 0 ? row : row % (rows / 8 + 1));
  }
  return trace;
}

/// Counts of a naive cache.
Counts replay(const std::string& policy, std::span<const RowId> trace, std::uint32_t capacity,
              std::uint64_t count_from) {
  const auto naive = make_naive_policy(policy, capacity);
  std::set<RowId> resident;
  Counts counts;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const std::uint64_t counted = i >= count_from ? 1 : 0;
    counts.lookups += counted;
    if (resident.contains(trace[i])) {
      counts.hits += counted;
      naive->touch(trace[i]);
      continue;
    }
    counts.on_demand_fetches += counted;
    if (resident.size() == capacity) {
      resident.erase(naive->evict());
      counts.evictions += counted;
    }
    resident.insert(trace[i]);
    naive->insert(trace[i]);
  }
  return counts;
}

void check_equal(const Counts& a, const Counts& b) {
  CHECK_EQ(a.lookups, b.lookups);
  CHECK_EQ(a.hits, b.hits);
  CHECK_EQ(a.on_demand_fetches, b.on_demand_fetches);
  CHECK_EQ(a.evictions, b.evictions);
}

std::unique_ptr<EvictionPolicy> policy_for(const std::string& name, std::uint32_t capacity) {
  return make_eviction_policy(name, {.capacity = capacity, .slots = capacity});
}

TEST(simulator_counts_match_naive_cache) {
  const std::vector<RowId> trace = random_trace(1, 6000, 200);
  for (const char* name : {"lru", "lfu", "clock", "sieve", "s3fifo"}) {
    for (std::uint32_t capacity : {1u, 10u, 50u, 199u, 200u, 300u}) {
      const Counts expected = replay(name, trace, capacity, 0);
      for (const std::size_t max_index_bytes : {std::size_t{0}, kFastIndexBytes}) {
        Simulator simulator(policy_for(name, capacity), {.capacity = capacity, .slots = capacity},
                            200, 0, 0, {}, {}, max_index_bytes);
        simulator.run(trace);
        check_equal(simulator.counts(), expected);
      }
    }
  }
}

TEST(simulator_run_in_pieces_counts_as_one_run) {
  const std::vector<RowId> trace = random_trace(2, 3000, 100);
  for (std::uint64_t count_from : {0u, 1u, 999u, 1000u, 1500u, 3000u, 5000u}) {
    Simulator simulator(policy_for("lru", 20), {.capacity = 20, .slots = 20}, 100, count_from);
    const std::span<const RowId> all(trace);
    for (std::size_t at = 0; at < trace.size(); at += 500) simulator.run(all.subspan(at, 500));
    check_equal(simulator.counts(), replay("lru", trace, 20, count_from));
  }
}

TEST(simulator_row_out_of_range_throws_before_the_replay) {
  Simulator simulator(policy_for("lru", 2), {.capacity = 2, .slots = 2}, 10);
  const std::vector<RowId> wrong{1, 2, 10, 3};
  CHECK_THROWS(std::out_of_range, simulator.run(wrong),
               "access 2: row out of range; expected below 10, got 10");
  CHECK_EQ(simulator.counts().lookups, 0);
}

/// LRU with bypass of odd rows.
class EvenRowsOnly final : public EvictionPolicy {
 public:
  explicit EvenRowsOnly(std::uint32_t capacity) : lru_(policy_for("lru", capacity)) {}
  void insert(Slot slot, RowId row) override { lru_->insert(slot, row); }
  void touch(std::span<const Slot> slots) override { lru_->touch(slots); }
  Slot evict() override { return lru_->evict(); }
  void remove(Slot slot) override { lru_->remove(slot); }
  void move(Slot from, Slot to) override { lru_->move(from, to); }
  bool admits(RowId row) override { return row % 2 == 0; }

 private:
  std::unique_ptr<EvictionPolicy> lru_;
};

TEST(simulator_bypassed_rows_take_no_slot) {
  Simulator simulator(std::make_unique<EvenRowsOnly>(2), {.capacity = 2, .slots = 2}, 10);
  const std::vector<RowId> trace{0, 2, 1, 1, 3, 0, 2, 4, 2, 0};
  simulator.run(trace);
  CHECK_EQ(simulator.counts().hits, 3);
  CHECK_EQ(simulator.counts().on_demand_fetches, 7);
  CHECK_EQ(simulator.counts().evictions, 2);
}

TEST(simulator_prefetched_rows_hit_until_evicted) {
  Simulator simulator(policy_for("lru", 2), {.capacity = 2, .slots = 2}, 10);
  const std::vector<RowId> prefetched{1, 2, 2, 3}, used{3, 3, 1};
  simulator.prefetch(prefetched);  // 3 evicts 1
  simulator.run(used);             // 1 evicts 2
  CHECK_EQ(simulator.counts().prefetches_issued, 3);
  CHECK_EQ(simulator.counts().prefetches_useful, 1);
  CHECK_EQ(simulator.counts().prefetches_useless, 2);
  CHECK_EQ(simulator.counts().hits, 2);
  CHECK_EQ(simulator.counts().on_demand_fetches, 1);
  CHECK_EQ(simulator.counts().evictions, 2);
  simulator.prefetch(used);  // all resident
  CHECK_EQ(simulator.counts().prefetches_issued, 3);
}

TEST(simulator_prefetches_of_a_step_share_pages) {
  Simulator simulator(policy_for("lru", 9), {.capacity = 9, .slots = 9}, 10, 0, 0, {},
                      pages_in_id_order(std::vector<RowId>{0, 10}, 4));
  const std::vector<RowId> first{0, 3, 4, 0}, second{1}, used{0, 2, 9};
  simulator.prefetch(first);   // pages 0 and 1
  simulator.prefetch(second);  // page 0 again
  simulator.run(used);
  CHECK_EQ(simulator.counts().prefetches_issued, 4);
  CHECK_EQ(simulator.counts().prefetch_device_reads, 3);
  CHECK_EQ(simulator.counts().on_demand_device_reads, 2);
  CHECK_EQ(simulator.counts().calls, 3);
}

TEST(simulator_late_prefetch_is_an_on_demand_fetch) {
  Simulator simulator(policy_for("lru", 9), {.capacity = 9, .slots = 9}, 10, 0, 2);
  const std::vector<RowId> prefetched{1, 2}, again{1}, used{5, 1, 2, 1};
  simulator.prefetch(prefetched);
  simulator.prefetch(again);
  simulator.run(used);  // 1 is used one access before it arrives, 2 when it has arrived
  CHECK_EQ(simulator.counts().prefetches_issued, 2);
  CHECK_EQ(simulator.counts().prefetches_late, 1);
  CHECK_EQ(simulator.counts().prefetches_useful, 1);
  CHECK_EQ(simulator.counts().on_demand_fetches, 2);
  CHECK_EQ(simulator.counts().on_demand_device_reads, 1);  // the other read was the prefetch
  CHECK_EQ(simulator.counts().prefetch_device_reads, 2);
  CHECK_EQ(simulator.counts().hits, 2);
}

TEST(simulator_prefetch_after_a_late_one_has_its_own_arrival) {
  Simulator simulator(policy_for("lru", 1), {.capacity = 1, .slots = 1}, 10, 0, 3);
  const std::vector<RowId> one{1}, other{2};
  simulator.prefetch(one);  // to arrive before access 3
  simulator.run(one);       // late
  simulator.run(other);     // evicts it
  simulator.prefetch(one);  // to arrive before access 5
  simulator.run(other);
  simulator.run(other);
  CHECK(!simulator.is_resident(1));
  simulator.run(other);
  CHECK_EQ(simulator.counts().hits, 3);
  simulator.run(one);
  CHECK_EQ(simulator.counts().prefetches_useful, 1);
}

TEST(simulator_prefetches_of_the_warm_up_are_not_counted) {
  Simulator simulator(policy_for("lru", 9), {.capacity = 9, .slots = 9}, 10, 2);
  const std::vector<RowId> early{1}, later{2}, used{3, 1};
  simulator.prefetch(early);
  simulator.run(used);
  simulator.prefetch(later);
  CHECK_EQ(simulator.counts().prefetches_issued, 1);
  CHECK_EQ(simulator.counts().prefetches_useful, 0);
}

TEST(simulator_bypassed_prefetched_rows_take_no_slot) {
  Simulator simulator(std::make_unique<EvenRowsOnly>(2), {.capacity = 2, .slots = 2}, 10);
  const std::vector<RowId> prefetched{1, 2};
  simulator.prefetch(prefetched);
  CHECK(!simulator.is_resident(1));
  CHECK(simulator.is_resident(2));
}

/// Counts of a naive cache by calls: it notifies of all hits, then inserts the missed rows, and
/// reads their pages.
Counts replay_calls(const std::string& policy, std::span<const RowId> trace,
                    const std::vector<std::vector<std::uint32_t>>& calls, std::uint32_t capacity,
                    const RowPages& pages) {
  const auto naive = make_naive_policy(policy, capacity);
  std::set<RowId> resident;
  Counts counts;
  for (const auto& lengths : calls) {
    const auto size = std::accumulate(lengths.begin(), lengths.end(), std::size_t{0});
    std::vector<RowId> missed;
    for (const std::uint64_t table : {0, 1}) {
      for (const RowId row : trace.first(size)) {
        if ((row >= 30) != (table == 1)) continue;
        ++counts.lookups;
        if (resident.contains(row)) {
          naive->touch(row);
        } else if (std::ranges::find(missed, row) == missed.end()) {
          missed.push_back(row);
        }
      }
    }
    trace = trace.subspan(size);
    counts.on_demand_fetches += missed.size();
    std::set<std::uint32_t> read;
    for (const RowId row : missed) read.insert(pages[row]);
    counts.on_demand_device_reads += read.size();
    ++counts.calls;
    for (const RowId row : missed) {
      if (resident.size() == capacity) {
        resident.erase(naive->evict());
        ++counts.evictions;
      }
      resident.insert(row);
      naive->insert(row);
    }
  }
  counts.hits = counts.lookups - counts.on_demand_fetches;
  return counts;
}

TEST(simulator_counts_of_calls_match_naive_cache) {
  for (const std::string name : {"lru", "s3fifo", "sieve"}) {
    for (const std::size_t samples : {1u, 3u, 40u}) {
      std::mt19937_64 random(samples);
      std::vector<std::vector<std::uint32_t>> calls(200);
      std::vector<std::uint32_t> all;
      for (auto& lengths : calls) {
        for (std::size_t i = 0; i < samples; ++i) lengths.push_back(random() % 5);
        all.insert(all.end(), lengths.begin(), lengths.end());
      }
      const auto size = std::accumulate(all.begin(), all.end(), std::size_t{0});
      const std::vector<RowId> trace = random_trace(samples, size, 100);
      const RowPages pages = pages_in_id_order(std::vector<RowId>{0, 30, 100}, 4);
      Simulator simulator(policy_for(name, 20), {.capacity = 20, .slots = 20}, 100, 0, 0,
                          {.samples = samples, .table_starts = {0, 30, 100}}, pages);
      simulator.run(trace, all);
      const Counts expected = replay_calls(name, trace, calls, 20, pages);
      check_equal(simulator.counts(), expected);
      CHECK_EQ(simulator.counts().calls, expected.calls);
      CHECK_EQ(simulator.counts().on_demand_device_reads, expected.on_demand_device_reads);
      CHECK_EQ(simulator.counts().prefetch_device_reads, 0);
    }
  }
}

/// A call is counted if its last access is; a device read, if the miss that causes it is.
TEST(simulator_call_across_the_first_counted_access_counts) {
  const std::vector<RowId> rows{0, 1, 2, 3, 4, 8};
  const std::vector<std::uint32_t> lengths{0, 3, 0, 2, 1};
  struct Case {
    std::uint64_t count_from, calls, reads;
  };
  for (const auto& [count_from, calls, reads] :
       {Case{0, 3, 4}, Case{2, 3, 3}, Case{4, 2, 2}, Case{5, 1, 1}}) {
    Simulator simulator(policy_for("lru", 9), {.capacity = 9, .slots = 9}, 10, count_from, 0,
                        {.samples = 2, .table_starts = {0, 10}},
                        pages_in_id_order(std::vector<RowId>{0, 10}, 4));
    simulator.run(rows, lengths);  // {0, 1, 2}, {3, 4}, {8}
    const Counts opt = belady(rows, 10, 9, count_from,
                              {.samples = 2,
                               .sample_lengths = lengths,
                               .pages = pages_in_id_order(std::vector<RowId>{0, 10}, 4)});
    for (const Counts& counts : {simulator.counts(), opt}) {
      CHECK_EQ(counts.calls, calls);
      CHECK_EQ(counts.on_demand_device_reads, reads);
    }
  }
}

TEST(simulator_run_ends_with_a_shorter_call) {
  Simulator simulator(policy_for("lru", 2), {.capacity = 2, .slots = 2}, 10, 0, 0,
                      {.samples = 2, .table_starts = {0, 10}});
  const std::vector<RowId> rows{1, 2, 1};
  const std::vector<std::uint32_t> lengths{1, 1, 1};
  simulator.run(rows, lengths);  // {1, 2} and {1}
  simulator.run(std::span(rows).first(1), std::span(lengths).first(1));
  CHECK_EQ(simulator.counts().on_demand_fetches, 2);
  CHECK_EQ(simulator.counts().hits, 2);
  CHECK_THROWS(std::invalid_argument, simulator.run(rows),
               "sample_lengths: missing; expected lengths for calls of 2 samples, got none");
  CHECK_EQ(simulator.counts().lookups, 4);
}

}  // namespace
