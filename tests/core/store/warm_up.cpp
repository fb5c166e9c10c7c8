// warm_up.cpp: resident rows listed, brought back in the same eviction order, and what stays out.
#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "check.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 3000;
constexpr std::uint64_t kSlots = 100;

StoreOptions with_slots(std::uint64_t slots, const std::string& policy = "lru") {
  StoreOptions options;
  options.budget.rows = slots;
  options.policy = policy;
  return options;
}

std::vector<RowId> numbers_of(const std::vector<SavedRow>& rows) {
  std::vector<RowId> numbers;
  for (const SavedRow row : rows) numbers.push_back(row.row().value);
  return numbers;
}

std::vector<SavedRow> store_rows(RowId first, RowId count, RowId step = 1) {
  std::vector<SavedRow> rows;
  for (RowId i = 0; i < count; ++i) rows.push_back({first + i * step});
  return rows;
}

/// A row with many accesses more often than not.
std::int64_t skewed(std::mt19937_64& random) {
  const std::uint64_t word = random();
  return static_cast<std::int64_t>(word % (word % 4 == 0 ? kRows : kRows / 50));
}

/// The standing of each resident row.
std::map<RowId, std::pair<int, int>> standings(Store& store) {
  std::map<RowId, std::pair<int, int>> found;
  for (const ResidentRow& row : store.list_residents()) {
    found[row.row.value] = {row.standing.queue, row.standing.hits};
  }
  return found;
}

TEST(closed_store_lists_resident_rows_in_eviction_order) {
  StoreBench bench(with_slots(kSlots));
  bench.add_table("a", kRows, 4);
  const Table& table = bench.add_table("b", kRows, 4);
  for (const std::int64_t row : {5, 3, 9, 3, 7}) bench.lookup(table, {row});
  bench.store().pin(table, integers({8}));
  std::vector<SavedRow> rows;
  bench.store().close(&rows);
  CHECK(numbers_of(rows) ==
        std::vector<RowId>({kRows + 5, kRows + 9, kRows + 3, kRows + 7, kRows + 8}));
}

TEST(open_store_lists_resident_rows_of_all_tables) {
  StoreBench bench(with_slots(kSlots));
  const Table& first = bench.add_table("a", kRows, 4);
  const Table& second = bench.add_table("b", kRows, 300);  // of another tier
  bench.lookup(first, {5, 3});
  bench.lookup(second, {2999});
  std::vector<RowId> rows = numbers_of(bench.store().resident_rows());
  std::sort(rows.begin(), rows.end());
  CHECK(rows == std::vector<RowId>({3, 5, kRows + 2999}));
}

TEST(warm_up_restores_rows_and_their_eviction_order) {
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(with_slots(kSlots, policy));
    const Table& table = bench.add_table("a", kRows, 4);
    std::vector<SavedRow> wanted;
    for (RowId i = 0; i < kSlots; ++i) wanted.push_back({i * 1871 % kRows});
    CHECK_EQ(bench.store().warm_up(wanted), kSlots);
    for (const SavedRow row : wanted) {
      bench.lookup(table, {static_cast<std::int64_t>(row.word)});
    }
    CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  }
  StoreBench bench(with_slots(kSlots));
  bench.add_table("a", kRows, 4);
  std::vector<SavedRow> wanted;
  for (RowId i = 0; i < kSlots; ++i) wanted.push_back({i * 1871 % kRows});
  bench.store().warm_up(wanted);
  std::vector<SavedRow> rows;
  bench.store().close(&rows);
  CHECK(numbers_of(rows) == numbers_of(wanted));
}

TEST(warm_up_restores_the_standing_of_rows) {
  std::mt19937_64 random(1);
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(with_slots(kSlots, policy));
    const Table& table = bench.add_table("a", kRows, 4);
    for (int i = 0; i < 2000; ++i) bench.lookup(table, {skewed(random)});
    const auto expected = standings(bench.store());
    for (const bool closes : {false, true}) {
      std::vector<SavedRow> rows = bench.store().resident_rows();
      if (closes) bench.store().close(&rows);
      StoreBench other(with_slots(kSlots, policy));
      const Table& same = other.add_table("a", kRows, 4);
      CHECK_EQ(other.store().warm_up(rows), kSlots);
      CHECK(standings(other.store()) == expected);
      for (int i = 0; i < 500; ++i) other.lookup(same, {skewed(random)});
    }
  }
}

TEST(saved_row_holds_row_and_standing) {
  for (const RowId row : {RowId{0}, RowId{7}, (RowId{1} << 48) - 1}) {
    CHECK(SavedRow::can_hold({row}));
    const SavedRow saved = SavedRow::of({row}, {.queue = 1, .hits = 255});
    CHECK_EQ(saved.row().value, row);
    CHECK_EQ(saved.standing()->queue, 1);
    CHECK_EQ(saved.standing()->hits, 255);
    CHECK(!SavedRow{row}.standing());
  }
  CHECK(!SavedRow::can_hold({RowId{1} << 48}));
}

TEST(warm_up_evicts_no_row_and_takes_the_last_ones) {
  StoreBench bench(with_slots(kSlots));
  const Table& table = bench.add_table("a", kRows, 4);
  bench.lookup(table, {2990, 2991});
  bench.store().warm_up(store_rows(0, 300));
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.resident_rows, kSlots);
  CHECK_EQ(stats.tiers.evictions, 0);
  CHECK_EQ(stats.tiers.prefetches_issued, 0);
  CHECK_EQ(stats.tiers.prefetch_device_reads, 0);
  std::vector<RowId> rows = numbers_of(bench.store().resident_rows());
  std::sort(rows.begin(), rows.end());
  CHECK_EQ(rows.front(), 200);
  CHECK_EQ(rows.back(), 2991);
}

TEST(warm_up_ignores_unknown_rows_and_repeated_ones) {
  StoreBench bench(with_slots(kSlots));
  bench.add_table("a", kRows, 4);
  const std::vector<SavedRow> rows{{7}, {kRows}, {7}, {~RowId{0}}, {8}};
  bench.store().warm_up(rows);
  CHECK_EQ(bench.store().stats().resident_rows, 2);
  StoreBench empty(with_slots(kSlots));
  CHECK_EQ(empty.store().warm_up(rows), 0);
}

TEST(warm_up_brings_the_latest_values) {
  StoreBench bench(with_slots(kSlots));
  const Table& table = bench.add_table("a", kRows, 4);
  bench.update(table, {3, 4}, 9);  // in the redo log
  bench.store().warm_up(store_rows(0, 10));
  CHECK(bench.lookup(table, {3, 4, 5}) == std::vector<std::uint64_t>({9, 9, 0}));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
}

TEST(warm_up_of_a_closed_store_throws) {
  StoreBench bench(with_slots(kSlots));
  bench.add_table("a", kRows, 4);
  bench.store().close();
  CHECK_THROWS(std::invalid_argument, bench.store().warm_up(store_rows(0, 10)), "closed");
  CHECK_THROWS(std::invalid_argument, bench.store().resident_rows(), "closed");
}

TEST(warm_up_beside_updates_serves_no_old_value) {
  StoreBench bench(with_slots(kSlots));
  const Table& table = bench.add_table("a", kRows, 4);
  const std::size_t rounds = stressed(60);
  Threads threads;
  threads.start([&] {
    while (!threads.stopped()) {
      bench.store().warm_up(store_rows(0, kSlots, 3));
      (void)bench.store().resident_rows();
    }
  });
  threads.start([&] {
    for (std::uint64_t round = 1; round <= rounds; ++round) {
      const auto row = static_cast<std::int64_t>(round * 3 % (3 * kSlots));
      bench.update(table, {row}, round);
      CHECK(bench.lookup(table, {row}) == std::vector<std::uint64_t>({round}));
      bench.lookup(table, {2000 + row, 2001 + row, 2002 + row});  // evicts rows
    }
    threads.stop();
  });
  threads.join();
}

}  // namespace
