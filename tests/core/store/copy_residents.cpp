// copy_residents.cpp: the resident rows of one store brought into another, with their standing.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <random>
#include <set>

#include "base/error.hpp"
#include "check.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 3000;
constexpr std::uint64_t kSlots = 100;

std::vector<RowId> resident(Store& store) {
  std::vector<RowId> rows;
  for (const ResidentRow& row : store.list_residents()) rows.push_back(row.row.value);
  return rows;
}

/// Two stores of the same tables; those of the second have version 1.
struct Pair {
  explicit Pair(const std::string& policy = "lru", std::uint64_t slots = kSlots)
      : from(of_rows(kSlots, policy)), to(of_rows(slots, policy)) {
    for (StoreBench* bench : {&from, &to}) {
      bench->add_table("a", kRows, 4);
      bench->add_table("b", kRows, 4);
      bench->add_table("c", kRows, 300);  // of another tier
    }
    for (std::uint32_t table = 0; table < 3; ++table) to.load(of(to, table), 0, kRows, 1);
  }
  static const Table& of(StoreBench& bench, std::uint32_t table) {
    return *bench.store().tables()[table];
  }

  StoreBench from, to;
};

TEST(copied_residents_are_those_of_the_other_store_with_own_values) {
  for (const std::string& policy : eviction_policy_names()) {
    Pair pair(policy);
    for (std::int64_t i = 0; i < 500; ++i) {
      for (std::uint32_t table = 0; table < 3; ++table) {
        pair.from.lookup(Pair::of(pair.from, table), {i * 37 % kRows});
      }
    }
    const std::vector<RowId> wanted = resident(pair.from.store());
    CHECK_EQ(pair.to.store().copy_residents(pair.from.store()), wanted.size());
    CHECK(resident(pair.to.store()) == wanted);
    pair.to.store().reset_stats();
    for (const RowId row : wanted) {
      const auto table = static_cast<std::uint32_t>(row / kRows);
      const auto versions =
          pair.to.lookup(Pair::of(pair.to, table), {static_cast<std::int64_t>(row % kRows)});
      CHECK_EQ(versions, std::vector<std::uint64_t>{1});
    }
    CHECK_EQ(pair.to.store().stats().on_demand_fetches, 0);
  }
}

TEST(copied_lfu_evicts_the_same_rows_in_the_same_order) {
  Pair pair("lfu");
  for (std::int64_t row = 0; row < 33; ++row) {
    for (std::int64_t hit = 0; hit <= row % 11; ++hit) {
      pair.from.lookup(Pair::of(pair.from, 0), {row * 89});
    }
  }
  pair.to.store().copy_residents(pair.from.store());
  for (StoreBench* bench : {&pair.from, &pair.to}) {
    for (std::int64_t row = 0; row < 100; ++row) {
      bench->lookup(Pair::of(*bench, 1), {row, row});
    }
  }
  CHECK(resident(pair.from.store()) == resident(pair.to.store()));
}

TEST(copy_drops_rows_that_are_not_resident_there) {
  Pair pair;
  pair.to.lookup(Pair::of(pair.to, 0), {1, 2, 3});
  pair.from.lookup(Pair::of(pair.from, 0), {3, 4});
  pair.to.store().copy_residents(pair.from.store());
  CHECK(resident(pair.to.store()) == std::vector<RowId>({3, 4}));
  CHECK_EQ(pair.to.store().stats().tiers.evictions, 0);
}

TEST(copy_into_fewer_slots_fills_them) {
  Pair pair("s3fifo", 20);
  for (std::int64_t row = 0; row < 90; ++row) pair.from.lookup(Pair::of(pair.from, 0), {row});
  pair.to.store().copy_residents(pair.from.store());
  const StoreStats stats = pair.to.store().stats();
  CHECK(stats.resident_rows > 0 && stats.resident_rows <= 20);
}

TEST(copy_of_a_row_that_cannot_be_read_throws) {
  Pair pair;
  pair.from.lookup(Pair::of(pair.from, 0), {3, 4});
  pair.to.reopen();  // its rows are in the redo log no longer
  pair.to.pool().after_read = [](std::span<ReadOp> ops) {
    for (ReadOp& op : ops) op.result = -EIO;
  };
  CHECK_THROWS(SystemFailure, pair.to.store().copy_residents(pair.from.store()), "table 'a'");
}

TEST(copy_ends_if_the_store_is_closed) {
  Pair pair;
  for (std::int64_t row = 0; row < 90; ++row) pair.from.lookup(Pair::of(pair.from, 0), {row});
  pair.to.reopen();  // its rows are in the redo log no longer: the copy reads the file
  std::atomic<bool> reads{false};
  pair.to.pool().before_read = [&](std::span<ReadOp>) { reads = true; };
  Threads threads;
  threads.start([&] {
    wait_until([&] { return reads.load(); });
    pair.to.store().close();
  });
  try {
    for (;;) {
      pair.to.store().copy_residents(pair.from.store());
      pair.from.lookup(Pair::of(pair.from, 0), {std::rand() % kRows});
    }
  } catch (const std::invalid_argument&) {
  }
  threads.join();
  CHECK_EQ(pair.from.lookup(Pair::of(pair.from, 0), {5}), std::vector<std::uint64_t>{0});
}

TEST(copied_pins_are_those_of_the_other_store) {
  Pair pair;
  pair.from.store().pin(Pair::of(pair.from, 0), integers({5, 6}));
  pair.from.store().pin(Pair::of(pair.from, 2), integers({7}));
  pair.to.store().pin(Pair::of(pair.to, 0), integers({6, 8}));
  pair.to.store().copy_residents(pair.from.store());
  pair.to.store().copy_pins(pair.from.store());
  std::vector<RowId> pinned;
  for (const ResidentRow& row : pair.to.store().list_residents()) {
    if (row.is_pinned) pinned.push_back(row.row.value);
  }
  CHECK(pinned == std::vector<RowId>({5, 6, 2 * kRows + 7}));
  CHECK_EQ(pair.to.store().stats().pinned_rows, 3);
}

TEST(copy_beside_lookups_and_updates_of_the_other_store_is_whole) {
  for (const char* policy : {"s3fifo", "lru", "lfu"}) {
    Pair pair(policy);
    Threads threads;
    for (unsigned seed = 0; seed < 2; ++seed) {
      threads.start([&, seed] {
        std::mt19937 random(seed);
        const Table& table = Pair::of(pair.from, seed);
        for (std::uint64_t i = 1; !threads.stopped(); ++i) {
          const auto row = static_cast<std::int64_t>(random() % 200);
          pair.from.lookup(table, {row, row + 1, static_cast<std::int64_t>(random()) % kRows});
          if (i % 8 == 0) pair.from.update(table, {row}, i);
        }
      });
    }
    for (std::size_t round = 0; round < stressed(5); ++round) {
      pair.to.store().copy_residents(pair.from.store());
      const std::vector<RowId> rows = resident(pair.to.store());
      CHECK(std::set<RowId>(rows.begin(), rows.end()).size() == rows.size());
      CHECK(rows.size() <= 2 * kSlots);
      pair.to.lookup(Pair::of(pair.to, 0), rows_from(0, 200));
    }
    threads.stop();
    threads.join();
  }
}

}  // namespace
