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

/// The errno that an expression fails with, 0 where it succeeds.
template <typename Body>
int code_of(Body body) {
  try {
    body();
  } catch (const SystemFailure& failure) {
    return failure.code;
  }
  return 0;
}

[[noreturn]] void refuse(int code) {
  throw SystemFailure(code, std::strerror(code), "somewhere");
}

TEST(failed_write_back_keeps_updates_readable) {
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(of_rows(16, policy));
    const Table& table = bench.add_table("t", 200, 4);
    std::atomic<bool> full{true};
    bench.pool().before_write = [&](std::uint64_t, std::size_t) {
      if (full) refuse(ENOSPC);
    };
    // Sixteen slots and eight spares take so many updates, and not one more.
    std::int64_t updated = 0;
    while (code_of([&] { bench.update(table, {updated}, 1); }) == 0) ++updated;
    CHECK_EQ(updated, 24);
    CHECK_EQ(code_of([&] { bench.update(table, {100}, 1); }), ENOSPC);
    CHECK_EQ(code_of([&] { bench.store().flush(); }), ENOSPC);
    CHECK_EQ(code_of([&] { bench.store().close(); }), ENOSPC);
    CHECK(!bench.store().closed());
    CHECK_EQ(bench.store().stats().dirty_rows, 24);
    CHECK_EQ(bench.store().stats().write_back_error, std::string(std::strerror(ENOSPC)));
    // Rows are read all the while, past the fast tier where it has no room.
    for (int round = 0; round < 2; ++round) {
      const auto versions = bench.lookup(table, rows_from(0, 200));
      for (std::int64_t row = 0; row < 200; ++row) CHECK_EQ(versions[row], row < updated ? 1 : 0);
    }
    CHECK_EQ(code_of([&] { bench.store().pin(table, integers(rows_from(100, 10))); }), ENOSPC);
    CHECK_EQ(bench.store().stats().pinned_rows, 0);
    full = false;
    bench.update(table, {100}, 2);
    bench.store().flush();
    CHECK_EQ(bench.store().stats().write_back_error, "");
    CHECK_EQ(bench.store().stats().dirty_rows, 0);
    bench.reopen();
    const auto versions = bench.lookup(*bench.store().tables()[0], rows_from(0, 200));
    for (std::int64_t row = 0; row < 200; ++row) {
      CHECK_EQ(versions[row], row < updated ? 1 : row == 100 ? 2 : 0);
    }
  }
}

TEST(background_write_back_resumes_with_free_space) {
  StoreBench bench(of_rows(64));
  const Table& table = bench.add_table("t", 200, 4);
  std::atomic<int> refusals{3};
  bench.pool().before_write = [&](std::uint64_t, std::size_t) {
    if (refusals > 0) {
      --refusals;
      refuse(EIO);
    }
  };
  bench.update(table, rows_from(0, 40), 1);
  wait_until([&] { return bench.store().stats().dirty_rows <= 4; });
  CHECK(bench.store().stats().tiers.write_back_errors >= 3);
}

/// Reads of rows that are there, again and again beside what else is tried.
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
    const Table& table = bench.add_table("t", 1024, 16);  // 32 rows a block
    Threads threads;
    threads.start([&] { look_up_until_stopped(bench, table, 256, threads); });
    const std::uint64_t middle = table.offset_of({512});
    std::filesystem::resize_file(bench.path(), middle);
    for (std::int64_t row : {512, 700, 1023}) {
      CHECK_THROWS(SystemFailure, bench.lookup(table, {row}), "the file was cut short");
      CHECK_EQ(code_of([&] { bench.lookup(table, {1, row, 2}); }), EIO);
    }
    CHECK_EQ(bench.lookup(table, {511})[0], 0);
    CHECK_EQ(bench.prefetch(table, {800, 801, 511}), 2);
    // Nothing is written either: it would make the file look whole, with zeros for rows.
    bench.update(table, {600}, 1);
    CHECK_EQ(code_of([&] { bench.store().flush(); }), EIO);
    CHECK_EQ(code_of([&] { bench.load(table, 0, 10, 1); }), EIO);
    CHECK_EQ(std::filesystem::file_size(bench.path()), middle);
    CHECK_EQ(bench.lookup(table, {600})[0], 1);
    threads.stop();
    threads.join();
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.hits + stats.on_demand_fetches, stats.lookups);
  }
}

TEST(row_is_served_if_its_neighbour_is_lost) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1024, 16);
  const std::uint64_t middle = table.offset_of({512});
  bench.lookup(table, {0});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (reading.exchange(true)) return;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { CHECK_EQ(code_of([&] { bench.lookup(table, {511, 512}); }), EIO); });
  wait_until([&] { return reading.load(); });
  threads.start([&] { CHECK_EQ(bench.lookup(table, {511})[0], 0); });
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

TEST(flush_reports_a_write_lost_in_the_background) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.update(table, {1}, 1);
  {
    faults::Fault fault(faults::Call::sync_range, EIO);
    bench.store().settle();  // lets the kernel write, and learns that it could not
    CHECK(fault.struck() > 0);
  }
  CHECK_EQ(code_of([&] { bench.store().flush(); }), EIO);
  bench.store().flush();
}

TEST(flush_reports_a_failed_sync) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.update(table, {1}, 1);
  {
    faults::Fault fault(faults::Call::sync, EIO);
    CHECK_EQ(code_of([&] { bench.store().flush(); }), EIO);
    CHECK_EQ(code_of([&] { bench.store().close(); }), EIO);
  }
  CHECK_EQ(bench.lookup(table, {1})[0], 1);
  bench.store().close();
}

TEST(full_disk_keeps_existing_rows) {
  on_small_disk(3 << 20, [](const std::string& disk) {
    const FilePoolOptions file{.reserve = false};
    {
      Store store(FilePool::create(disk + "/f", file), of_rows(16));
      const Table& table = store.create_table("t", 4096, 512, DType::float32);  // 8 MiB
      const std::vector<float> values(512, 1.0f);
      const auto update = [&](std::int64_t row) {
        const Rows rows{row};
        store.update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
      };
      std::int64_t row = 0;
      while (code_of([&] { update(row); }) == 0) ++row;
      CHECK(row > 100 && row < 1600);
      // A row that shares a block of the disk with one that is there finds room, and makes some.
      while (code_of([&] { update(row); }) == 0) ++row;
      CHECK_EQ(code_of([&] { store.flush(); }), ENOSPC);
      CHECK_EQ(code_of([&] { store.close(); }), ENOSPC);
      std::vector<float> out(512);
      const TableSegment part{&table};
      for (std::int64_t wanted = 0; wanted < 1000; ++wanted) {
        const Rows rows{wanted};
        BagCall call = StoreBench::call_of(&part, 1, rows);
        call.bags = 1;
        call.mode = Mode::copy;
        call.out = reinterpret_cast<std::byte*>(out.data());
        store.embedding_bag(call);
        CHECK_EQ(out[0], wanted < row ? 1.0f : 0.0f);
      }
    }
    CHECK_EQ(FilePool::open(disk + "/f", file)->tables().size(), 1);
  });
}

}  // namespace
