// store_in_place.cpp: stores with a slow tier in memory: rows read in place, promoted and updated.
#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "base/numa/cpus.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr MemoryPoolOptions kMemory{};

StoreOptions copying(std::uint64_t rows, PromotionRule rule = PromotionRule::always,
                     const std::string& policy = "lru") {
  StoreOptions options = of_rows(rows, policy);
  options.promotion = rule;
  options.budget.none = rows == 0;
  return options;
}

std::uint64_t on_demand(StoreBench& bench) {
  return bench.store().stats().on_demand_fetches;
}

TEST(row_is_read_in_place_and_then_promoted) {
  StoreBench bench(copying(10), kMemory);
  const Table& table = bench.add_table("t", 100, 24);
  CHECK_EQ(bench.lookup(table, {3, 5, 3}).size(), 3);
  const StoreStats first = bench.store().stats();
  CHECK_EQ(first.on_demand_fetches, 3);  // each is a load from the slow tier
  CHECK_EQ(first.lookups, 3);
  CHECK_EQ(first.resident_rows, 2);
  bench.lookup(table, {5, 3});
  CHECK_EQ(on_demand(bench), 3);
  CHECK_EQ(bench.store().stats().hits, 2);
  CHECK_EQ(bench.pool().read_ops.load(), 0u);
  CHECK(first.slow.in_place && first.slow.kind == "numa");
}

TEST(emulated_latency_applies_to_misses_only) {
  StoreBench bench(copying(10), kMemory);
  const Table& table = bench.add_table("t", 100, 24);  // 192 bytes: three lines
  bench.pool().passed_lines = 0;
  bench.lookup(table, {1, 2, 3, 4});
  CHECK_EQ(bench.pool().passed_lines.load(), 12u);
  bench.lookup(table, {1, 2, 3, 4, 5});
  CHECK_EQ(bench.pool().passed_lines.load(), 15u);
}

TEST(extra_cost_in_place_counts_as_waiting) {
  MemoryPoolOptions slow = kMemory;
  slow.extra_ns = 1000;
  StoreBench bench(copying(10), slow);
  const Table& table = bench.add_table("t", 100, 24);  // three lines a row
  bench.lookup(table, {1, 2, 3, 4});
  const StoreStats stats = bench.store().stats();
  const LineCosts costs = stats.slow.admission.costs;
  CHECK(std::abs(static_cast<double>(stats.waited_ns) - 12 * (costs.slow_ns - costs.fast_ns)) < 1);
  CHECK(stats.waited_ns > 6000);
  bench.lookup(table, {1, 2, 3, 4});
  CHECK_EQ(bench.store().stats().waited_ns, stats.waited_ns);

  StoreBench uncopied(copying(0), slow);
  uncopied.lookup(uncopied.add_table("t", 100, 24), {1, 2, 3, 4});
  CHECK_EQ(uncopied.store().stats().waited_ns, 0);  // no policy could have spared it
}

TEST(store_without_a_fast_tier_reads_in_place) {
  for (const auto& options :
       {copying(0), copying(10, PromotionRule::never), copying(0, PromotionRule::automatic)}) {
    StoreBench bench(options, kMemory);
    const Table& table = bench.add_table("t", 5000, 8);
    for (int i = 0; i < 3; ++i) bench.lookup(table, rows_from(0, 5000));
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.hits, 0);
    CHECK_EQ(stats.on_demand_fetches, 15'000);
    CHECK_EQ(stats.resident_rows, 0);
    CHECK_EQ(stats.tiers.evictions, 0);
    CHECK_EQ(bench.prefetch(table, {1, 2}), 0);  // no call would read the copies
  }
}

TEST(store_without_a_fast_tier_updates_rows) {
  StoreBench bench(copying(0), kMemory);
  const Table& table = bench.add_table("t", 1000, 8);
  for (std::uint64_t version = 1; version < 4; ++version) {
    bench.update(table, rows_from(0, 1000), version);
    for (std::uint64_t seen : bench.lookup(table, rows_from(0, 1000))) CHECK_EQ(seen, version);
  }
  bench.store().flush();
  CHECK_EQ(bench.store().stats().dirty_rows, 0);
  for (std::uint64_t seen : bench.lookup(table, rows_from(0, 1000))) CHECK_EQ(seen, 3);
  CHECK_THROWS(std::invalid_argument, bench.store().pin(table, integers(Rows{1})),
               "expected at most 0 pinned rows");
}

TEST(store_on_a_file_needs_a_fast_tier) {
  CHECK_THROWS(std::invalid_argument, StoreBench(copying(0, PromotionRule::automatic)),
               "fast_rows: too small for a slow tier in a file");
  CHECK_THROWS(std::invalid_argument, StoreBench(copying(5, PromotionRule::never)),
               "promotion: no effect");
}

TEST(staged_update_evicts_no_row) {
  StoreBench bench(copying(4), kMemory);
  const Table& table = bench.add_table("t", 100, 8);
  bench.lookup(table, {1, 2, 3, 4});
  bench.update(table, rows_from(50, 40), 7);
  bench.store().flush();
  bench.store().reset_stats();
  bench.lookup(table, {1, 2, 3, 4});
  CHECK_EQ(on_demand(bench), 0);
  CHECK_EQ(bench.store().stats().tiers.evictions, 0);
  for (std::uint64_t seen : bench.lookup(table, rows_from(50, 40))) CHECK_EQ(seen, 7);
}

TEST(update_of_a_resident_row_is_written_back) {
  StoreBench bench(copying(4), kMemory);
  const Table& table = bench.add_table("t", 100, 8);
  bench.lookup(table, {1, 2});
  bench.update(table, {1}, 5);
  CHECK_EQ(bench.lookup(table, {1})[0], 5);
  CHECK_EQ(bench.store().stats().resident_rows, 2);
  bench.store().flush();
  double stored = 0;
  std::memcpy(&stored, table.slow_rows + table.layout.stride, sizeof stored);
  CHECK_EQ(stored, element(1, 5, 0));
  bench.lookup(table, rows_from(10, 30));  // evicts it
  CHECK_EQ(bench.lookup(table, {1})[0], 5);
}

TEST(staged_row_can_be_updated_again) {
  StoreBench bench(copying(0), kMemory);
  const Table& table = bench.add_table("t", 10, 8);
  std::atomic<int> writes{0};
  bench.pool().before_write = [&] { ++writes; };
  for (std::uint64_t version = 1; version <= 500; ++version) {
    bench.update(table, {3, 4}, version);
    CHECK_EQ(bench.lookup(table, {3})[0], version);
  }
  bench.store().flush();
  CHECK(writes > 0);
  CHECK_EQ(bench.lookup(table, {4})[0], 500);
}

TEST(rows_are_prefetched_and_pinned_from_memory) {
  StoreBench bench(copying(20), kMemory);
  const Table& table = bench.add_table("t", 100, 8);
  CHECK_EQ(bench.prefetch(table, {7, 8, 9}), 3);
  wait_until([&] { return bench.store().stats().resident_rows == 3; });
  bench.lookup(table, {7, 8});
  StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.on_demand_fetches, 0);
  CHECK_EQ(stats.prefetches_useful, 2);
  CHECK_EQ(stats.tiers.prefetches_issued, 3);
  bench.store().pin(table, integers(Rows{30, 31, 30}));
  for (std::int64_t row = 40; row < 100; ++row) bench.lookup(table, {row});
  bench.store().reset_stats();
  bench.lookup(table, {30, 31});
  CHECK_EQ(on_demand(bench), 0);
  CHECK_EQ(bench.store().stats().pinned_rows, 2);
}

TEST(staged_row_can_be_pinned) {
  StoreBench bench(copying(8), kMemory);
  const Table& table = bench.add_table("t", 100, 8);
  bench.update(table, {5, 6}, 3);
  bench.store().pin(table, integers(Rows{5, 6}));
  CHECK_EQ(bench.store().stats().resident_rows, 2);
  CHECK_EQ(bench.lookup(table, {5})[0], 3);
  bench.store().unpin(table, integers(Rows{5, 6}));
}

TEST(load_replaces_in_place_and_pinned_rows) {
  StoreBench bench(copying(8), kMemory);
  const Table& table = bench.add_table("t", 100, 8);
  bench.store().pin(table, integers(Rows{1}));
  bench.lookup(table, {2});
  bench.update(table, {3}, 1);
  bench.load(table, 0, 100, 9);
  for (std::uint64_t seen : bench.lookup(table, rows_from(0, 100))) CHECK_EQ(seen, 9);
}

TEST(create_table_keeps_staged_updates) {
  StoreBench bench(copying(8), kMemory);
  const Table& one = bench.add_table("one", 100, 8);
  bench.lookup(one, {1});
  bench.update(one, {1, 2}, 4);
  const Table& two = bench.add_table("two", 50, 8);
  CHECK_EQ(bench.lookup(one, {1, 2})[1], 4);
  CHECK_EQ(bench.lookup(two, {49})[0], 0);
}

TEST(cheap_row_is_promoted_after_many_accesses) {
  // The number of reads before a copy depends on the costs of this machine. Rows read once must not
  // be copied while copies are expensive.
  StoreBench bench(copying(50, PromotionRule::automatic),
                   MemoryPoolOptions{.request = {}, .extra_ns = 5000});
  const Table& table = bench.add_table("t", 20'000, 8);
  const StoreStats before = bench.store().stats();
  CHECK(before.slow.admission.costs.slow_ns > before.slow.admission.costs.fast_ns);
  for (int i = 0; i < 200; ++i) bench.lookup(table, {1, 2, 3, 4});
  CHECK(bench.store().stats().hits > 0);
}

TEST(background_threads_run_on_their_cpus) {
  StoreOptions options = copying(8);
  options.cpus = {current_cpus().front()};
  StoreBench bench(options, kMemory);
  CHECK(bench.store().stats().background_cpus == options.cpus);
  options.cpus = {8000};
  CHECK_THROWS(std::invalid_argument, StoreBench(options, kMemory), ", got 8000");
}

TEST(fast_tier_is_placed_on_its_node) {
  StoreOptions options = copying(1000);
  options.fast_node.node = 0;
  StoreBench bench(options, kMemory);
  const Table& table = bench.add_table("t", 5000, 8);
  bench.lookup(table, {1});
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.fast_placement.node, 0);
  if (stats.fast_placement.unverified.empty()) {
    CHECK(stats.fast_placement.pages * 4096 >= 1000 * 64);
    CHECK_EQ(stats.fast_placement.elsewhere, 0);
  }
  options.fast_node.node = 1000;
  CHECK_THROWS(std::invalid_argument, StoreBench(options, kMemory), "node 1000: does not exist");
}

/// Threads update and look up rows: every row is whole, and no thread reads an older version later.
void stress(std::uint64_t capacity, PromotionRule rule, const std::string& policy,
            std::uint32_t dim) {
  StoreBench bench(copying(capacity, rule, policy), kMemory);
  const Table& table = bench.add_table("t", 300, dim);
  std::vector<std::atomic<std::uint64_t>> newest(300);
  Threads threads;
  const std::size_t rounds = stressed(400);
  for (int writer = 0; writer < 2; ++writer) {
    threads.start([&, writer] {
      for (std::uint64_t version = 1; version <= rounds && !threads.stopped(); ++version) {
        Rows rows;
        for (std::int64_t row = writer; row < 300; row += 2) {
          if ((row * 7 + static_cast<std::int64_t>(version)) % 5 == 0) rows.push_back(row);
        }
        bench.update(table, rows, version);
        for (std::int64_t row : rows) newest[static_cast<std::size_t>(row)] = version;
        if (version % 50 == 0) bench.store().flush();
      }
    });
  }
  std::atomic<int> readers{2};
  for (int reader = 0; reader < 2; ++reader) {
    threads.start([&] {
      std::vector<std::uint64_t> seen(300, 0);
      for (std::size_t i = 0; i < rounds && !threads.stopped(); ++i) {
        std::vector<std::uint64_t> least;
        for (const auto& version : newest) least.push_back(version);
        const Rows rows = rows_from(0, 300);
        const auto versions = bench.lookup(table, rows);
        for (std::size_t row = 0; row < 300; ++row) {
          CHECK(versions[row] >= least[row]);
          CHECK(versions[row] >= seen[row]);
          seen[row] = versions[row];
        }
      }
      --readers;
    });
  }
  threads.start([&] {
    for (std::int64_t row = 0; readers > 0 && !threads.stopped(); row = (row + 1) % 290) {
      bench.prefetch(table, rows_from(row, 10));
      bench.store().stats();
    }
  });
  threads.join();
  bench.store().flush();
  const auto versions = bench.lookup(table, rows_from(0, 300));
  for (std::size_t row = 0; row < 300; ++row) CHECK_EQ(versions[row], newest[row].load());
}

TEST(rows_in_place_are_not_torn_without_a_fast_tier) {
  stress(0, PromotionRule::always, "lru", 40);
}

TEST(rows_in_place_are_not_torn_during_evictions) {
  stress(20, PromotionRule::always, "lru", 40);
  stress(20, PromotionRule::always, "s3fifo", 40);
  stress(200, PromotionRule::always, "clock", 8);
}

TEST(rows_in_place_are_not_torn_with_promotion) {
  stress(20, PromotionRule::automatic, "lru", 40);
}

}  // namespace
