// disk_failures.cpp: full, failing and truncated disks. The affected call fails; other calls
// continue, and no value is lost.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "small_disk.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

[[noreturn]] void refuse(int code) {
  throw SystemFailure(code, std::strerror(code), "somewhere");
}

TEST(failed_update_changes_nothing) {
  for (faults::Call call : {faults::Call::write, faults::Call::reserve}) {
    for (const std::string& policy : eviction_policy_names()) {
      StoreBench bench(of_rows(16, policy));
      const Table& table = bench.add_table("t", 200, 4);
      bench.lookup(table, rows_from(0, 16));
      for (int round = 0; round < 2; ++round) {
        if (round == 1 && call == faults::Call::reserve) break;  // the log has its blocks by now
        const std::uint64_t before = bench.lookup(table, {0})[0];
        const std::uint64_t dirty = bench.store().stats().dirty_rows;
        {
          faults::Fault fault(call, ENOSPC);
          for (int i = 0; i < 3; ++i) {
            CHECK_EQ(code_of([&] { bench.update(table, rows_from(0, 100), 7); }), ENOSPC);
          }
          CHECK(fault.struck() >= 3);
        }
        CHECK_EQ(bench.store().stats().dirty_rows, dirty);
        for (std::uint64_t version : bench.lookup(table, rows_from(0, 100))) {
          CHECK_EQ(version, before);
        }
        bench.update(table, rows_from(0, 100), 1);
        bench.store().flush();
      }
      bench.reopen();
      const auto versions = bench.lookup(*bench.store().tables()[0], rows_from(0, 200));
      for (std::int64_t row = 0; row < 200; ++row) CHECK_EQ(versions[row], row < 100 ? 1 : 0);
    }
  }
}

/// Every write and sync of a write-back fails in turn: the updates stay readable and are written
/// back later.
TEST(failed_write_back_keeps_updates_readable) {
  for (faults::Call call : {faults::Call::write, faults::Call::sync}) {
    StoreBench bench(of_rows(16));
    const Table* table = &bench.add_table("t", 2000, 40);
    const Rows all = rows_from(0, 2000);
    bench.store().flush();
    std::uint64_t version = 0;
    for (std::size_t after = 0;; ++after) {
      CHECK(after < 50);
      bench.update(*table, rows_from(0, 1000), ++version);
      std::size_t struck = 0;
      {
        faults::Fault fault(call, EIO, after, 2);
        const int code = code_of([&] { bench.pool().write_back(); });
        struck = fault.struck();
        if (struck == 0) CHECK_EQ(code, 0);
      }
      if (struck == 0) break;
      const auto versions = bench.lookup(*table, all);
      for (std::size_t row = 0; row < 2000; ++row)
        CHECK_EQ(versions[row], row < 1000 ? version : 0);
      if (after % 3 == 0) bench.pool().write_back();
      if (after % 3 == 1) {
        bench.reopen();
        table = bench.store().tables()[0];
      }
    }
    CHECK_EQ(bench.store().stats().dirty_rows, 0);
    CHECK_EQ(bench.store().stats().write_back_error, "");
    const auto versions = bench.lookup(*table, all);
    for (std::size_t row = 0; row < 2000; ++row) CHECK_EQ(versions[row], row < 1000 ? version : 0);
  }
}

TEST(background_write_back_resumes_after_failures) {
  StoreBench bench(of_rows(16), FilePoolOptions{.sync_interval = std::chrono::milliseconds(10)});
  const Table& table = bench.add_table("t", 2000, 510);
  const Rows rows = rows_from(0, 2000);  // 8 MB
  bench.update(table, rows, 1);
  bench.store().flush();
  std::uint64_t version = 2;
  {
    faults::Fault fault(faults::Call::sync, EIO);
    while (bench.store().stats().write_back_errors < 3) {
      if (code_of([&] { bench.update(table, rows, version); }) == 0) ++version;
    }
    CHECK(bench.store().stats().write_back_error.find("cannot sync") != std::string::npos);
    CHECK_EQ(bench.store().stats().write_backs, 0);
    CHECK(bench.lookup(table, rows) == std::vector<std::uint64_t>(2000, version - 1));
  }
  wait_until([&] { return bench.store().stats().write_backs > 0; });
  bench.store().flush();
  CHECK_EQ(bench.store().stats().write_back_error, "");
  CHECK(bench.lookup(table, rows) == std::vector<std::uint64_t>(2000, version - 1));
}

/// Looks up rows that are stored, until stopped, while other calls run.
void look_up_until_stopped(StoreBench& bench, const Table& table, std::int64_t rows,
                           Threads& threads) {
  std::mt19937_64 random(1);
  while (!threads.stopped()) {
    Rows some(10);
    for (std::int64_t& row : some) row = static_cast<std::int64_t>(random()) & (rows - 1);
    for (std::uint64_t version : bench.lookup(table, some)) CHECK_EQ(version, 0);
  }
}

TEST(truncated_file_fails_lookups_of_lost_rows) {
  for (const char* engine : {"auto", "pread", "mmap"}) {
    StoreBench bench(of_rows(16), {.engine = engine});
    const Table& table = bench.add_table("t", 1024, 16);  // 31 rows a page
    Threads threads;
    threads.start([&] { look_up_until_stopped(bench, table, 256, threads); });
    const std::uint64_t middle = table.layout.address({496}).page;
    std::filesystem::resize_file(bench.path(), middle);
    for (std::int64_t row : {496, 700, 1023}) {
      CHECK_THROWS(SystemFailure, bench.lookup(table, {row}), "the file was cut short");
      CHECK_EQ(code_of([&] { bench.lookup(table, {1, row, 2}); }), EIO);
    }
    CHECK_EQ(bench.lookup(table, {495})[0], 0);
    const std::uint64_t queued = bench.prefetch(table, {800, 801, 495});
    CHECK(queued == 2 || queued == 3);  // row 495 may have been evicted by now
    // Nothing is written either: it would extend the file, with zeros for rows.
    for (std::int64_t row : {1, 600}) {
      CHECK_EQ(code_of([&] { bench.update(table, {row}, 1); }), EIO);
    }
    CHECK_EQ(code_of([&] { bench.load(table, 0, 10, 1); }), EIO);
    CHECK_EQ(std::filesystem::file_size(bench.path()), middle);
    CHECK_EQ(bench.lookup(table, {1})[0], 0);
    threads.stop();
    threads.join();
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.hits + stats.on_demand_fetches, stats.lookups);
  }
}

TEST(row_is_served_if_its_neighbour_is_lost) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1024, 16);
  const std::uint64_t middle = table.layout.address({496}).page;
  bench.lookup(table, {0});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (reading.exchange(true)) return;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { CHECK_EQ(code_of([&] { bench.lookup(table, {495, 496}); }), EIO); });
  wait_until([&] { return reading.load(); });
  threads.start([&] { CHECK_EQ(bench.lookup(table, {495})[0], 0); });
  wait_until([&] { return bench.store().stats().shared_fetches == 1; });
  std::filesystem::resize_file(bench.path(), middle);
  go = true;
  threads.join();
}

TEST(failed_read_leaves_no_state) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1000, 4);
  std::atomic<bool> broken{true};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (broken) refuse(EIO);
  };
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(code_of([&] { bench.lookup(table, rows_from(0, 50)); }), EIO);
    CHECK_EQ(code_of([&] { bench.store().pin(table, integers(rows_from(0, 5))); }), EIO);
    bench.prefetch(table, rows_from(20, 10));
  }
  CHECK_EQ(bench.store().stats().pinned_rows, 0);
  broken = false;
  CHECK(bench.lookup(table, rows_from(0, 50)) == std::vector<std::uint64_t>(50, 0));
  bench.store().pin(table, integers(rows_from(0, 5)));
  CHECK_EQ(bench.store().stats().pinned_rows, 5);
}

TEST(failed_sync_fails_the_load) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.load(table, 0, 100, 1);
  {
    faults::Fault fault(faults::Call::sync, EIO, 0, 1);
    CHECK_EQ(code_of([&] { bench.store().settle(); }), EIO);
    CHECK(fault.struck() > 0);
  }
  bench.load(table, 0, 100, 1);
  bench.store().settle();
  bench.store().flush();
  bench.store().close();
}

TEST(flush_fails_until_the_log_is_synced) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.store().flush();
  bench.update(table, {1}, 1);
  {
    faults::Fault fault(faults::Call::sync, EIO);
    for (int i = 0; i < 3; ++i) CHECK_EQ(code_of([&] { bench.store().flush(); }), EIO);
    CHECK_EQ(code_of([&] { bench.store().close(); }), EIO);
    CHECK(!bench.store().closed());
  }
  CHECK_EQ(bench.lookup(table, {1})[0], 1);
  bench.store().flush();
  bench.reopen();
  CHECK_EQ(bench.lookup(*bench.store().tables()[0], {1})[0], 1);
}

TEST(update_with_commit_reports_a_failed_sync) {
  StoreBench bench(of_rows(16), FilePoolOptions{.durability = Durability::commit});
  const Table& table = bench.add_table("t", 1000, 4);
  bench.update(table, {1}, 1);
  faults::Fault fault(faults::Call::sync, EIO, 0, 1);
  CHECK_EQ(code_of([&] { bench.update(table, {1}, 2); }), EIO);
  bench.update(table, {1}, 3);
  CHECK_EQ(bench.lookup(table, {1})[0], 3);
}

TEST(full_disk_keeps_existing_rows) {
  on_small_disk(24 << 20, [](const std::string& disk) {
    const FilePoolOptions file{.reserve = false};
    const auto check_rows = [](Store& store, std::int64_t updated) {
      const Table* table = store.tables()[0];
      std::vector<float> out(512);
      const TableSegment part{table};
      for (std::int64_t wanted = 0; wanted < 16384; wanted += 13) {
        const Rows rows{wanted};
        BagCall call = StoreBench::call_of(&part, 1, rows);
        call.bags = 1;
        call.mode = Mode::copy;
        call.out = reinterpret_cast<std::byte*>(out.data());
        store.embedding_bag(call);
        CHECK_EQ(out[0], wanted < updated ? 1.0f : 0.0f);
      }
    };
    std::int64_t row = 0;
    {
      Store store(FilePool::create(disk + "/f", file), of_rows(16));
      const Table& table = store.create_table("t", 16384, 512, DType::float32);  // 64 MiB
      const std::vector<float> values(512, 1.0f);
      const auto update = [&] {
        const Rows rows{row};
        store.update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
      };
      while (code_of(update) == 0) ++row;
      CHECK(row > 4000 && row < 16384);
      store.flush();
      CHECK_EQ(code_of([&] { store.close(); }), ENOSPC);
      check_rows(store, row);
      const std::vector<float> zeros(std::size_t{8000} * 512);
      const auto load = [&] {
        store.load(table, 8384, 8000, reinterpret_cast<const std::byte*>(zeros.data()));
      };
      CHECK_EQ(code_of(load), ENOSPC);
      store.flush();
    }
    {
      Store store(FilePool::open(disk + "/f", file), of_rows(16));
      check_rows(store, row);
      CHECK_EQ(code_of([&] { store.close(); }), ENOSPC);
    }
  });
}

}  // namespace
