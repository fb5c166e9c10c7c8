// store.cpp: the calls of a store except embedding_bag, one thread at a time.
#include "store/store.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "kernels/kernels.hpp"
#include "sim/simulator.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

TEST(new_table_is_zero) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.store().create_table("t", 100, 3, DType::float32);
  std::vector<float> out(3, 7.0f);
  const Rows rows{99};
  const TableSegment part{&table};
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 1;
  call.mode = Mode::copy;
  call.out = reinterpret_cast<std::byte*>(out.data());
  CHECK_EQ(bench.store().embedding_bag(call), 0);
  CHECK(out == std::vector<float>(3));
}

TEST(loaded_rows_are_looked_up) {
  for (std::uint64_t capacity : {1u, 7u, 300u}) {
    StoreBench bench(of_rows(capacity));
    const Table& table = bench.add_table("t", 300, 5);
    const Rows all = rows_from(0, 300);
    for (int round = 0; round < 3; ++round) {
      CHECK(bench.lookup(table, all) == std::vector<std::uint64_t>(300, 0));
    }
    bench.load(table, 100, 50, 3);
    const auto versions = bench.lookup(table, all);
    for (std::int64_t row : all) CHECK_EQ(versions[row], row >= 100 && row < 150 ? 3 : 0);
    CHECK(bench.lookup(table, {}).empty());
  }
}

TEST(rows_survive_a_store) {
  StoreBench bench(of_rows(20));
  bench.add_table("first", 100, 8);
  bench.add_table("second", 50, 9);
  bench.update(*bench.store().tables()[0], rows_from(10, 30), 5);
  bench.store().flush();
  bench.update(*bench.store().tables()[1], rows_from(0, 10), 6);
  bench.reopen();  // closes, and thereby flushes
  const auto tables = bench.store().tables();
  CHECK_EQ(tables.size(), 2);
  CHECK_EQ(tables[0]->layout.name, "first");
  const auto first = bench.lookup(*tables[0], rows_from(0, 100));
  for (std::size_t row = 0; row < 100; ++row) CHECK_EQ(first[row], row >= 10 && row < 40 ? 5 : 0);
  const auto second = bench.lookup(*tables[1], rows_from(0, 50));
  for (std::size_t row = 0; row < 50; ++row) CHECK_EQ(second[row], row < 10 ? 6 : 0);
}

TEST(update_is_seen_by_later_lookups) {
  for (const std::string& policy : eviction_policy_names()) {
    for (std::uint64_t capacity : {1u, 4u, 60u}) {
      StoreBench bench(of_rows(capacity, policy));
      const Table& table = bench.add_table("t", 60, 4);
      std::map<std::int64_t, std::uint64_t> model;
      std::mt19937_64 random(capacity);
      for (std::uint64_t step = 1; step < 250; ++step) {
        Rows rows;
        for (std::uint64_t i = 0; i < 1 + random() % 8; ++i) {
          rows.push_back(static_cast<std::int64_t>(random() % 60));
        }
        if (random() % 2 == 0) {
          bench.update(table, rows, step);
          for (std::int64_t row : rows) model[row] = step;
        } else {
          const auto versions = bench.lookup(table, rows);
          for (std::size_t i = 0; i < rows.size(); ++i) CHECK_EQ(versions[i], model[rows[i]]);
        }
        if (random() % 50 == 0) bench.store().flush();
      }
      bench.reopen();
      const auto versions = bench.lookup(*bench.store().tables()[0], rows_from(0, 60));
      for (std::int64_t row = 0; row < 60; ++row) CHECK_EQ(versions[row], model[row]);
    }
  }
}

TEST(update_of_a_repeated_row_keeps_the_last_value) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 2);
  const Rows rows{3, 5, 3};
  std::vector<double> values;
  for (std::uint64_t version : {1, 2, 3}) {
    for (std::size_t j = 0; j < 2; ++j) values.push_back(element(rows[version - 1], version, j));
  }
  bench.store().update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  CHECK(bench.lookup(table, {3, 5}) == (std::vector<std::uint64_t>{3, 2}));
  CHECK_EQ(bench.store().stats().updated_rows, 3);
}

TEST(prefetched_rows_are_hits) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  CHECK_EQ(bench.prefetch(table, rows_from(0, 40)), 40);
  wait_until([&] { return bench.store().stats().resident_rows == 40; });
  CHECK_EQ(bench.prefetch(table, rows_from(0, 40)), 0);  // they are there
  bench.lookup(table, rows_from(0, 30));
  bench.lookup(table, rows_from(0, 30));
  StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.hits, 60);
  CHECK_EQ(stats.on_demand_fetches, 0);
  CHECK_EQ(stats.tiers.prefetches_issued, 40);
  CHECK_EQ(stats.prefetches_useful, 30);
  bench.lookup(table, rows_from(100, 50));
  stats = bench.store().stats();
  CHECK_EQ(stats.tiers.prefetches_useless, 10);
  CHECK_EQ(stats.prefetches_late, 0);
}

TEST(lookup_joins_a_prefetch_in_flight) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    reading = true;
    wait_until([&] { return go.load(); });
  };
  bench.prefetch(table, {5});
  wait_until([&] { return reading.load(); });
  Threads threads;
  threads.start([&] { CHECK_EQ(bench.lookup(table, {5})[0], 0); });
  wait_until([&] { return bench.store().stats().shared_fetches == 1; });
  go = true;
  threads.join();
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.prefetches_late, 1);
  CHECK_EQ(stats.prefetches_useful, 0);
  CHECK_EQ(stats.on_demand_fetches, 2);
}

TEST(concurrent_misses_of_a_row_share_one_read) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  bench.pool().read_ops = 0;
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp> ops) {
    if (ops.empty()) return;
    reading = true;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { bench.lookup(table, {5}); });
  wait_until([&] { return reading.load(); });
  for (int i = 0; i < 3; ++i) threads.start([&] { bench.lookup(table, {5}); });
  wait_until([&] { return bench.store().stats().shared_fetches == 3; });
  go = true;
  threads.join();
  CHECK_EQ(bench.pool().read_ops.load(), 1);
}

TEST(update_during_a_read_is_seen_by_later_lookups) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    reading = true;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { CHECK_EQ(bench.lookup(table, {5})[0], 4); });
  wait_until([&] { return reading.load(); });
  bench.update(table, {5}, 4);
  CHECK_EQ(bench.lookup(table, {5})[0], 4);
  go = true;
  threads.join();
  CHECK_EQ(bench.lookup(table, {5})[0], 4);
}

/// An update is in the log before the read of another call is stale.
TEST(row_found_in_the_log_makes_its_read_stale) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  std::atomic<bool> ended{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (reading.exchange(true)) return;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] {
    const std::uint64_t version = bench.lookup(table, {5})[0];
    ended = true;
    CHECK_EQ(version, 4);
  });
  wait_until([&] { return reading.load(); });
  bench.pool().after_update = [&] {
    CHECK_EQ(bench.lookup(table, {5})[0], 4);
    go = true;
    wait_until([&] { return ended.load(); });
  };
  bench.update(table, {5}, 4);
  threads.join();
  CHECK_EQ(bench.lookup(table, {5})[0], 4);
  CHECK_EQ(bench.store().stats().resident_rows, 2);
}

TEST(pinned_rows_are_always_hits) {
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(of_rows(20, policy));
    const Table& table = bench.add_table("t", 500, 4);
    bench.update(table, {3}, 1);
    bench.store().pin(table, integers(rows_from(0, 10)));
    bench.store().pin(table, integers(Rows{0, 0, 1}));
    CHECK_EQ(bench.store().stats().pinned_rows, 10);
    for (int i = 0; i < 3; ++i) bench.lookup(table, rows_from(100, 400));
    bench.store().reset_stats();
    const auto versions = bench.lookup(table, rows_from(0, 10));
    CHECK_EQ(versions[3], 1);
    CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
    CHECK_THROWS(std::invalid_argument, bench.store().pin(table, integers(rows_from(50, 10))),
                 "expected at most 19 pinned rows");
    CHECK_EQ(bench.store().stats().pinned_rows, 10);
    bench.store().unpin(table, integers(rows_from(0, 500)));
    CHECK_EQ(bench.store().stats().pinned_rows, 0);
    for (int i = 0; i < 3; ++i) bench.lookup(table, rows_from(100, 400));
    bench.store().reset_stats();
    bench.lookup(table, rows_from(0, 10));
    CHECK_EQ(bench.store().stats().on_demand_fetches, 10);
  }
}

TEST(invalid_tables_are_refused) {
  StoreBench bench(of_rows(10));
  Store& store = bench.store();
  store.create_table("t", 10, 4, DType::float32);
  const auto create = [&](const std::string& name, std::uint64_t rows, std::uint32_t dim) {
    store.create_table(name, rows, dim, DType::float32);
  };
  CHECK_THROWS(std::invalid_argument, create("t", 10, 4), "name: table 't' exists already");
  CHECK_THROWS(std::invalid_argument, create("", 10, 4), "1 to 191 bytes");
  CHECK_THROWS(std::invalid_argument, create(std::string(192, 'x'), 10, 4), "1 to 191 bytes");
  CHECK_THROWS(std::invalid_argument, create(std::string("a\0b", 3), 10, 4), "without NUL");
  CHECK_THROWS(std::invalid_argument, create("u", 0, 4), "at least one row and dim");
  CHECK_THROWS(std::invalid_argument, create("u", 10, 0), "at least one row and dim");
  CHECK_THROWS(std::invalid_argument, create("u", (std::uint64_t{1} << 48) + 1, 4), "2**48");
  CHECK_THROWS(std::invalid_argument, create("u", 10, (1u << 20) + 1), "dim 2**20");
  CHECK_THROWS(std::invalid_argument, create("u", std::uint64_t{1} << 48, 1u << 20), "2**62 bytes");
  CHECK_EQ(store.tables().size(), 1);
  create(std::string(191, 'x'), 10, 4);
}

TEST(load_beyond_a_table_is_refused) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.add_table("t", 10, 4);
  CHECK_THROWS(std::invalid_argument, bench.load(table, 8, 3, 1),
               "table 't': 3 rows from row 8 on do not fit; expected at most 10 rows");
  CHECK_THROWS(std::invalid_argument, bench.load(table, 11, 0, 1), "do not fit");
  CHECK(bench.lookup(table, rows_from(0, 10)) == std::vector<std::uint64_t>(10, 0));
}

TEST(closed_store_refuses_calls_and_frees_its_file) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.add_table("t", 10, 4);
  bench.update(table, {1}, 1);
  Store& store = bench.store();
  CHECK(!store.closed());
  store.close();
  store.close();
  CHECK(store.closed());
  const Rows rows{1};
  CHECK_THROWS(std::invalid_argument, bench.lookup(table, rows), "the store is closed");
  CHECK_THROWS(std::invalid_argument, bench.update(table, rows, 1), "closed");
  CHECK_THROWS(std::invalid_argument, bench.load(table, 0, 1, 1), "closed");
  CHECK_THROWS(std::invalid_argument, bench.prefetch(table, rows), "closed");
  CHECK_THROWS(std::invalid_argument, store.pin(table, integers(rows)), "closed");
  CHECK_THROWS(std::invalid_argument, store.unpin(table, integers(rows)), "closed");
  CHECK_THROWS(std::invalid_argument, store.create_table("u", 1, 1, DType::float32), "closed");
  CHECK_THROWS(std::invalid_argument, store.flush(), "closed");
  CHECK_THROWS(std::invalid_argument, store.settle(), "closed");
  CHECK_THROWS(std::invalid_argument, store.stats(), "closed");
  CHECK_THROWS(std::invalid_argument, store.reset_stats(), "closed");
  bench.reopen();
  CHECK_EQ(bench.lookup(*bench.store().tables()[0], rows)[0], 1);
}

TEST(invalid_options_are_refused) {
  CHECK_THROWS(std::invalid_argument, Store::check(of_rows(10, "fifo")), "policy: unknown");
  CHECK_THROWS(std::invalid_argument, Store::check(of_rows(0)), "got 0 and 0");
  Store::check(of_rows(1));
}

TEST(stats_report_memory) {
  StoreOptions options;
  options.budget.bytes = 1 << 20;
  StoreBench bench(options);
  const Table& table = bench.add_table("t", 100000, 8);
  bench.lookup(table, rows_from(0, 3000));
  const StoreStats stats = bench.store().stats();
  const std::uint64_t budgeted = stats.vector_bytes + stats.index_bytes + stats.metadata_bytes;
  CHECK(budgeted <= 1 << 20);
  CHECK(budgeted > (1 << 20) * 9 / 10);
  CHECK_EQ(stats.resident_rows, 3000);
  CHECK(stats.vector_bytes >= stats.fast_rows * 64);
  CHECK_EQ(stats.index, "hash");
  CHECK(stats.staging_bytes > 0);
  CHECK_EQ(stats.slow.kind, "file");
  CHECK_EQ(stats.slow.path, bench.path());
  CHECK(stats.slow.bytes >= 100000 * 64);
  bench.store().reset_stats();
  CHECK_EQ(bench.store().stats().lookups, 0);
  CHECK_EQ(bench.store().stats().resident_rows, 3000);
}

TEST(flush_leaves_updates_in_the_log) {
  StoreBench bench(of_rows(20));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.update(table, rows_from(0, 100), 1);
  bench.update(table, rows_from(50, 100), 2);
  bench.store().flush();
  const StoreStats flushed = bench.store().stats();
  CHECK_EQ(flushed.dirty_rows, 150);
  CHECK_EQ(flushed.write_backs, 0);
  CHECK(flushed.log_bytes >= 200 * table.layout.stride);
  bench.pool().write_back();
  const StoreStats written = bench.store().stats();
  CHECK_EQ(written.dirty_rows, 0);
  CHECK_EQ(written.write_backs, 150);
  CHECK_EQ(written.log_bytes, 0);
  const auto versions = bench.lookup(table, rows_from(0, 1000));
  for (std::size_t row = 0; row < 1000; ++row) {
    CHECK_EQ(versions[row], row < 50 ? 1 : row < 150 ? 2 : 0);
  }
}

TEST(full_log_is_written_back_in_the_background) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 2000, 510);
  const Rows rows = rows_from(0, 2000);  // 8 MB
  std::uint64_t version = 0;
  while (bench.store().stats().write_backs == 0) bench.update(table, rows, ++version);
  CHECK(version >= kLogSegmentBytes / (2000 * 4096));
  CHECK(bench.lookup(table, rows) == std::vector<std::uint64_t>(2000, version));
  bench.reopen();
  CHECK(bench.lookup(*bench.store().tables()[0], rows) ==
        std::vector<std::uint64_t>(2000, version));
}

}  // namespace
