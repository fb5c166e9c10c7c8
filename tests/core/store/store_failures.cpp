// store_failures.cpp: lack of memory and threads, forks, arrays that change during a call. The
// affected call fails; other calls continue, and no value is lost.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <random>
#include <set>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

/// Makes each allocation of the call fail in turn. The call throws or does without it; the store is
/// valid afterwards.
void fail_every_allocation(StoreBench& bench, faults::Call what, const std::function<void()>& call,
                           const std::function<void()>& check_order) {
  for (std::size_t after = 0; after < 400; ++after) {
    std::size_t struck;
    {
      faults::Fault fault(what, ENOMEM, after, 1);
      try {
        call();
      } catch (const std::bad_alloc&) {
      } catch (const MemoryShortage&) {
      } catch (const SystemFailure& failure) {
        CHECK_EQ(failure.code, ENOMEM);
      }
      struck = fault.struck();
    }
    check_order();
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.hits + stats.on_demand_fetches, stats.lookups);
    if (struck == 0) return;
  }
  CHECK(false);
}

TEST(call_without_memory_leaves_no_state) {
  for (faults::Call what : {faults::Call::allocate, faults::Call::map}) {
    StoreBench bench(of_rows(8));
    const Table& table = bench.add_table("t", 400, 4);
    std::mt19937_64 random(1);
    std::uint64_t version = 0;
    Rows rows;
    std::vector<std::uint64_t> latest(400, 0);
    const auto check_order = [&] {
      Threads threads;  // own buffers: a call must not wait for a read that no call makes
      threads.start([&] {
        const auto versions = bench.lookup(table, rows_from(0, 400));
        for (std::size_t row = 0; row < 400; ++row) CHECK_EQ(versions[row], latest[row]);
      });
      threads.join();
      CHECK_EQ(bench.store().stats().pinned_rows, 0);
      rows.clear();
      for (int i = 0; i < 12; ++i) rows.push_back(static_cast<std::int64_t>(random() % 400));
    };
    check_order();
    const TableSegment part{&table};
    std::vector<double> out(12 * 4);
    fail_every_allocation(
        bench, what,
        [&] {
          BagCall call = StoreBench::call_of(&part, 1, rows);
          call.bags = 12;
          call.mode = Mode::copy;
          call.out = reinterpret_cast<std::byte*>(out.data());
          call.out_stride = 4 * sizeof(double);
          call.out_dtype = DType::float64;
          bench.store().embedding_bag(call);
        },
        check_order);
    fail_every_allocation(
        bench, what,
        [&] {
          bench.update(table, rows, ++version);
          for (const std::int64_t row : rows) latest[static_cast<std::size_t>(row)] = version;
        },
        check_order);
    fail_every_allocation(
        bench, what,
        [&] {
          const Rows few(rows.begin(), rows.begin() + 5);
          bench.store().pin(table, integers(few));
          bench.store().unpin(table, integers(few));
        },
        [&] {
          bench.store().unpin(table, integers(rows));
          check_order();
        });
    fail_every_allocation(bench, what, [&] { bench.store().flush(); }, check_order);
    fail_every_allocation(bench, what, [&] { bench.prefetch(table, rows); }, check_order);
  }
}

TEST(background_survives_lack_of_memory) {
  StoreBench bench(of_rows(64));
  const Table& table = bench.add_table("t", 4000, 4);
  bench.lookup(table, {0});
  std::int64_t next = 0;
  for (std::size_t after = 0; after < 60; ++after) {
    const Rows wanted = rows_from(next, 20);
    next += 20;
    {
      faults::Fault fault(faults::Call::allocate_elsewhere, ENOMEM, after, 1);
      bench.prefetch(table, wanted);
      bench.update(table, wanted, after);
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
      while (fault.struck() == 0 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    }
    Threads threads;
    threads.start([&] {
      for (std::uint64_t version : bench.lookup(table, wanted)) CHECK_EQ(version, after);
    });
    threads.join();
  }
  bench.prefetch(table, {3999});
  wait_until([&] { return bench.store().stats().tiers.prefetches_issued > 0; });
  bench.store().flush();
}

TEST(forked_child_cannot_use_the_store) {
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", 100, 4);
  bench.update(table, {1}, 1);
  CHECK(bench.store().belongs_here());
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    int wrong = 0;
    const auto expect_refusal = [&](auto body) {
      try {
        body();
        ++wrong;
      } catch (const std::invalid_argument& error) {
        wrong += std::string(error.what()).find("belongs to the parent") == std::string::npos;
      }
    };
    const Rows rows{1};
    if (bench.store().belongs_here()) ++wrong;
    expect_refusal([&] { bench.lookup(table, rows); });
    expect_refusal([&] { bench.update(table, rows, 2); });
    expect_refusal([&] { bench.load(table, 0, 1, 2); });
    expect_refusal([&] { bench.prefetch(table, rows); });
    expect_refusal([&] { bench.store().pin(table, integers(rows)); });
    expect_refusal([&] { bench.store().unpin(table, integers(rows)); });
    expect_refusal([&] { bench.store().create_table("u", 1, 1, DType::float32); });
    expect_refusal([&] { bench.store().flush(); });
    expect_refusal([&] { bench.store().settle(); });
    expect_refusal([&] { bench.store().close(); });
    expect_refusal([&] { bench.store().stats(); });
    expect_refusal([&] { bench.store().reset_stats(); });
    _exit(wrong);
  }
  CHECK_EQ(bench.lookup(table, {1})[0], 1);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  bench.update(table, {1}, 3);
  bench.reopen();
  CHECK_EQ(bench.lookup(*bench.store().tables()[0], {1})[0], 3);
}

TEST(store_without_threads_reports_it) {
#ifdef __SANITIZE_THREAD__
  SKIP("ThreadSanitizer may never return from a fork of a process with threads");
#endif
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    TempDir dir;
    std::filesystem::permissions(std::filesystem::path(dir / "f").parent_path(),
                                 std::filesystem::perms::all);
    if (getuid() == 0 && setuid(65534) != 0) _exit(0);
    std::set<std::string> outcomes;
    for (rlim_t most : {0, 1, 2, 3, 4, 5, 34, 35, 36}) {
      const rlimit limit{most, 1000};
      if (setrlimit(RLIMIT_NPROC, &limit) != 0) _exit(3);
      const std::string path = dir / std::to_string(most);
      for (const char* engine : {"pread", "mmap"}) {
        try {
          Store store(FilePool::create(path + engine, {.engine = engine}), of_rows(4));
          store.close();
          outcomes.insert("made");
        } catch (...) {
          const ErrorReport report = describe_current_error();
          if (report.kind != ErrorKind::system || report.code != EAGAIN) _exit(4);
          outcomes.insert("refused");
        }
      }
    }
    _exit(outcomes.contains("refused") ? 0 : 5);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

TEST(stats_do_not_block_the_fast_tier) {
  StoreBench bench(of_rows(100000));  // large enough for huge pages, which are asked after
  const Table& table = bench.add_table("t", 120000, 4);
  std::atomic<bool> gathering{false};
  std::atomic<bool> updated{false};
  const faults::BeforeFopen hook([&](const std::string& path) {
    if (path != "/proc/self/smaps") return;
    gathering = true;
    wait_until([&] { return updated.load(); });
  });
  Threads threads;
  threads.start([&] { bench.store().stats(); });
  wait_until([&] { return gathering.load(); });
  bench.update(table, {1}, 1);
  bench.lookup(table, {2});
  updated = true;
  threads.join();
}

TEST(write_back_of_wide_rows_takes_little_memory) {
  StoreBench bench(of_rows(8));
  const Table& table = bench.store().create_table("t", 4, 1u << 18, DType::float64);  // 2 MiB
  const std::vector<double> values(1u << 18, 1.0);
  const Rows rows{2};
  bench.store().update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  const std::size_t before = faults::allocated_bytes();
  bench.pool().write_back();
  CHECK(faults::allocated_bytes() - before <= 16u << 20);
}

TEST(prefetched_row_is_useful_useless_or_late_once) {
  StoreBench bench(of_rows(10, "clock"));
  const Table& table = bench.add_table("t", 40, 4);
  Threads threads;
  for (std::uint64_t id = 0; id < 2; ++id) {
    threads.start([&, id] {
      std::mt19937_64 random(id);
      while (!threads.stopped()) {
        Rows rows(4);
        for (std::int64_t& row : rows) row = static_cast<std::int64_t>(random() % 40);
        bench.lookup(table, rows);
      }
    });
  }
  threads.start([&] {
    std::mt19937_64 random(7);
    // On a busy machine the background thread may not run during the first steps.
    const auto issued = [&] { return bench.store().stats().tiers.prefetches_issued; };
    for (std::size_t i = 0; (i < stressed(3000) || issued() == 0) && !threads.stopped(); ++i) {
      const auto row = static_cast<std::int64_t>(random() % 40);
      bench.prefetch(table, {row, (row + 1) % 40});
      bench.update(table, {row}, i);
    }
    threads.stop();
  });
  threads.join();
  const StoreStats stats = bench.store().stats();
  CHECK(stats.tiers.prefetches_issued > 0);
  CHECK(stats.prefetches_useful + stats.prefetches_late + stats.tiers.prefetches_useless <=
        stats.tiers.prefetches_issued);
}

TEST(create_table_keeps_concurrent_updates) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 50, 4);
  bench.update(table, {1}, 1);
  std::atomic<bool> adding{false};
  bench.pool().before_add_table = [&] {
    adding = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  Threads threads;
  threads.start([&] { bench.store().create_table("u", 50, 4, DType::float64); });
  wait_until([&] { return adding.load(); });
  bench.update(table, {1}, 2);  // has begun before there is a new table, and ends after
  threads.join();
  CHECK_EQ(bench.lookup(table, {1})[0], 2);
}

}  // namespace
