// resize.cpp: budgets changed while a store serves: which rows stay, in which order, and what is
// refused.
#include <algorithm>
#include <atomic>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "policy/external_policy.hpp"
#include "policy/fake_model.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 3000;

std::vector<RowId> resident(Store& store) {
  std::vector<RowId> rows;
  for (const SavedRow row : store.resident_rows()) rows.push_back(row.row().value);
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::vector<RowId> closed_order(Store& store) {
  std::vector<SavedRow> rows;
  store.close(&rows);
  std::vector<RowId> numbers;
  for (const SavedRow row : rows) numbers.push_back(row.row().value);
  return numbers;
}

StoreOptions of_bytes(std::uint64_t bytes) {
  StoreOptions options;
  options.budget.bytes = bytes;
  options.policy = "lru";
  return options;
}

TEST(growing_keeps_all_rows_in_eviction_order) {
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(of_rows(100, policy));
    const Table& table = bench.add_table("a", kRows, 4);
    bench.lookup(table, rows_from(0, 100));
    const std::vector<RowId> before = resident(bench.store());
    bench.store().resize({.rows = 250});
    CHECK(resident(bench.store()) == before);
    CHECK_EQ(bench.store().stats().fast_rows, 250);
    bench.store().reset_stats();
    bench.lookup(table, rows_from(0, 100));
    CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
    bench.lookup(table, rows_from(1000, 150));
    CHECK_EQ(bench.store().stats().tiers.evictions, 0);
    CHECK_EQ(bench.store().stats().resident_rows, 250);
  }
}

TEST(shrinking_keeps_the_rows_that_are_evicted_last) {
  StoreBench bench(of_rows(200));
  const Table& table = bench.add_table("a", kRows, 4);
  std::mt19937_64 random(1);
  Rows order = rows_from(500, 200);
  std::shuffle(order.begin(), order.end(), random);
  for (const std::int64_t row : order) bench.lookup(table, {row});
  bench.store().resize({.rows = 70});
  CHECK(closed_order(bench.store()) == std::vector<RowId>(order.end() - 70, order.end()));
}

TEST(a_resize_reads_nothing_and_keeps_the_latest_values) {
  StoreBench bench(of_rows(200));
  const Table& table = bench.add_table("a", kRows, 4);
  bench.lookup(table, rows_from(0, 200));
  bench.update(table, {3, 150}, 9);
  bench.store().reset_stats();
  bench.store().resize({.rows = 300});
  bench.store().resize({.rows = 200});
  const std::vector<std::uint64_t> versions = bench.lookup(table, rows_from(0, 200));
  CHECK_EQ(versions[3], 9);
  CHECK_EQ(versions[150], 9);
  CHECK_EQ(bench.store().stats().on_demand_device_reads, 0);
  CHECK_EQ(bench.store().stats().hits, 200);
}

TEST(pinned_rows_stay_pinned_or_refuse_the_budget) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("a", kRows, 4);
  bench.store().pin(table, integers(rows_from(10, 20)));
  bench.lookup(table, rows_from(500, 80));
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.rows = 20}),
               "fast tier: too small for the pinned rows; expected at most 19 of them");
  CHECK_EQ(bench.store().stats().fast_rows, 100);
  CHECK_EQ(bench.store().stats().resident_rows, 100);
  bench.store().resize({.rows = 25});
  CHECK_EQ(bench.store().stats().pinned_rows, 20);
  bench.lookup(table, rows_from(1000, 200));
  bench.store().reset_stats();
  bench.lookup(table, rows_from(10, 20));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  bench.store().unpin(table, integers(rows_from(10, 20)));
  CHECK_EQ(bench.store().stats().pinned_rows, 0);
}

TEST(a_budget_that_cannot_be_held_changes_nothing) {
  StoreBench bench(of_bytes(1 << 20));
  const Table& table = bench.add_table("a", kRows, 64, Residency::never);
  bench.lookup(table, rows_from(0, 500));
  const StoreStats before = bench.store().stats();
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.bytes = 5000}), "too small");
  CHECK_THROWS(std::invalid_argument, bench.store().resize({}), "fast_rows: too small");
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.bytes = 1 << 20, .rows = 5}),
               "expected one of them");
  CHECK_THROWS(MemoryShortage, bench.store().resize({.bytes = std::uint64_t{1} << 45}),
               "fast tier: not enough memory");
  CHECK_THROWS(std::invalid_argument, bench.store().reserve(table, 2 << 20), "reserved");
  const StoreStats after = bench.store().stats();
  CHECK_EQ(after.fast_rows, before.fast_rows);
  CHECK_EQ(after.resident_rows, before.resident_rows);
  CHECK_EQ(after.total_bytes, before.total_bytes);
}

TEST(small_tables_become_resident_and_leave_dram) {
  StoreBench bench(of_bytes(1 << 20));
  const Table& small = bench.add_table("small", 1000, 16);  // 128,000 bytes
  const Table& large = bench.add_table("large", 20000, 64);
  bench.update(small, {5}, 7);
  bench.lookup(large, rows_from(0, 100));
  CHECK(!bench.store().is_resident(small));
  bench.store().resize({.bytes = 64 << 20});
  CHECK(bench.store().is_resident(small));
  bench.store().reset_stats();
  CHECK_EQ(bench.lookup(small, {5, 6})[0], 7);
  bench.lookup(large, rows_from(0, 100));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  bench.update(small, {5}, 8);
  bench.store().resize({.bytes = 1 << 20});
  CHECK(!bench.store().is_resident(small));
  CHECK_EQ(bench.lookup(small, {5, 6})[0], 8);
  CHECK(bench.store().stats().total_bytes <= (1 << 20) + bench.store().stats().log_bytes +
                                                 bench.store().stats().staging_bytes +
                                                 bench.store().stats().page_cache_bytes);
}

TEST(a_reserved_table_keeps_its_rows_beside_a_scan) {
  StoreBench bench(of_bytes(4 << 20));
  const Table& own = bench.add_table("own", kRows, 64, Residency::never);
  const Table& other = bench.add_table("other", 50000, 64, Residency::never);
  bench.lookup(own, rows_from(0, 1000));
  bench.store().reserve(own, 1 << 20);
  bench.lookup(other, rows_from(0, 20000));
  bench.store().reset_stats();
  bench.lookup(own, rows_from(0, 1000));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  CHECK_EQ(bench.store().capacities().size(), 2);
  CHECK(bench.store().stats().vector_bytes + bench.store().stats().index_bytes +
            bench.store().stats().metadata_bytes <=
        4 << 20);
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.rows = 50}),
               "fast_rows: table 'own' has 1048576 bytes reserved");
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.bytes = 1 << 20}), "too small");
  bench.store().reserve(own, 0);
  CHECK_EQ(bench.store().capacities().size(), 1);
  bench.store().reset_stats();
  bench.lookup(own, rows_from(0, 1000));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
}

TEST(a_planned_policy_continues_after_a_resize) {
  StoreBench bench(of_rows(200));
  const Table& table = bench.add_table("a", kRows, 4);
  PlannedPolicy policy;
  policy.make = make_learned(fake_model(usual_hazard), {});
  bench.store().use_policy(policy);
  bench.lookup(table, rows_from(0, 150));
  bench.store().resize({.rows = 400});
  CHECK_EQ(bench.store().policy_stats().state, "running");
  CHECK_EQ(bench.store().policy_stats().tiers.size(), 1);
  bench.store().reset_stats();
  bench.lookup(table, rows_from(0, 150));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  const std::uint64_t before = bench.store().policy_stats().accesses_observed;
  while (bench.store().policy_stats().accesses_observed < before + 150) {
    bench.lookup(table, rows_from(0, 10));
  }
}

TEST(a_policy_whose_memory_does_not_fit_refuses_the_budget) {
  StoreBench bench(of_rows(200));
  const Table& table = bench.add_table("a", kRows, 4);
  PlannedPolicy policy;
  policy.in_background = false;
  const MakePolicy learned = make_learned(fake_model(usual_hazard), {});
  policy.make = [learned](const EvictionConfig& config, const TierTables& tables) {
    if (config.capacity > 300) throw std::invalid_argument("memory: too small");
    return learned(config, tables);
  };
  bench.store().use_policy(policy);
  bench.lookup(table, rows_from(0, 150));
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.rows = 400}), "memory: too small");
  CHECK_EQ(bench.store().capacities()[0], 200);
  CHECK_EQ(bench.store().step_policy(), 150);
  bench.store().resize({.rows = 300});
  bench.lookup(table, rows_from(0, 50));
  CHECK_EQ(bench.store().step_policy(), 50);
}

TEST(rows_of_memory_stay_in_the_fast_tier) {
  StoreOptions options = of_rows(200);
  options.promotion = PromotionRule::always;
  StoreBench bench(options, MemoryPoolOptions{});
  const Table& table = bench.add_table("a", kRows, 4);
  for (int i = 0; i < 4; ++i) bench.lookup(table, rows_from(0, 150));
  const std::vector<RowId> before = resident(bench.store());
  CHECK(before.size() > 100);
  bench.store().resize({.rows = 300});
  CHECK(resident(bench.store()) == before);
  bench.update(table, {5}, 3);
  bench.store().resize({});  // no fast tier
  CHECK(resident(bench.store()).empty());
  CHECK_EQ(bench.lookup(table, {5})[0], 3);
}

TEST(new_table_leaves_resident_rows_and_pins) {
  StoreBench bench(of_rows(300));
  const Table& table = bench.add_table("a", 1000, 4);
  bench.lookup(table, rows_from(0, 100));
  const Rows pinned = {50};
  bench.store().pin(table, integers(pinned));
  bench.add_table("b", 500, 4);
  bench.add_table("c", 500, 30);  // in a tier of its own
  bench.store().reset_stats();
  bench.lookup(table, rows_from(0, 100));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  CHECK_EQ(bench.store().stats().pinned_rows, 1);
}

/// The first call makes the tiers, in any thread.
TEST(changes_of_the_layout_beside_the_first_lookup_are_safe) {
  for (std::size_t round = 0; round < stressed(20); ++round) {
    StoreBench bench(of_rows(300));
    const Table& table = bench.add_table("a", 100, 4);
    Threads threads;
    threads.start([&] { CHECK_EQ(bench.lookup(table, {7})[0], 0); });
    threads.start([&] {
      bench.store().create_table("b", 100, 30, DType::float64);
      if (round % 2 == 0) bench.store().resize({.rows = 200});
      if (round % 2 == 1) bench.store().grow_table(table, 200);
    });
    threads.join();
    CHECK_EQ(bench.lookup(table, {7})[0], 0);
  }
}

TEST(failed_table_leaves_the_store_as_it_was) {
  StoreBench bench(of_rows(20));
  const Table& table = bench.add_table("a", 100, 4);
  const Rows pinned = rows_from(0, 15);
  bench.store().pin(table, integers(pinned));
  const std::uint64_t bytes = bench.store().stats().slow.bytes;
  CHECK_THROWS(std::invalid_argument,
               bench.store().create_table("b", 900, 30, DType::float64, Residency::never),
               "too small for the pinned rows");
  CHECK_EQ(bench.store().tables().size(), 1);
  CHECK_EQ(bench.store().stats().slow.bytes, bytes);
  CHECK_EQ(bench.store().stats().pinned_rows, 15);
  bench.lookup(table, rows_from(0, 100));
  bench.reopen();
  CHECK_EQ(bench.store().tables().size(), 1);
}

TEST(a_closed_store_refuses_another_budget) {
  StoreBench bench(of_rows(20));
  const Table& table = bench.add_table("a", kRows, 4);
  bench.store().close();
  CHECK_THROWS(std::invalid_argument, bench.store().resize({.rows = 30}), "closed");
  CHECK_THROWS(std::invalid_argument, bench.store().reserve(table, 30000), "closed");
}

/// No lookup fails or reads an old value, and none reads the slow tier for a row that was resident:
/// rows wait for slots that readers hold. An updated row is not resident while readers hold all.
TEST(lookups_beside_resizes_are_hits_with_current_values) {
  StoreBench bench(of_rows(2000));
  const Table& table = bench.add_table("a", kRows, 4);
  const Table& updated = bench.add_table("b", kRows, 4);
  bench.lookup(table, rows_from(0, 500));
  bench.store().reset_stats();
  Threads threads;
  threads.start([&] {
    std::mt19937_64 random(2);
    while (!threads.stopped()) {
      const auto row = static_cast<std::int64_t>(random() % 500);
      CHECK_EQ(bench.lookup(table, {row})[0], 0);
    }
  });
  threads.start([&] {
    for (std::uint64_t version = 1; !threads.stopped(); ++version) {
      bench.update(updated, {7}, version);
      CHECK_EQ(bench.lookup(updated, {7})[0], version);
    }
  });
  threads.start([&] {
    for (std::size_t round = 0; round < stressed(40); ++round) {
      bench.store().resize({.rows = 600 + round % 3 * 700});
    }
    threads.stop();
  });
  threads.join();
  CHECK_EQ(bench.store().stats().tables[0].on_demand_fetches, 0);
}

}  // namespace
