// store_failures.cpp: bad days. Whoever is hit learns of it; everybody else is served on, and when
// the day is over nothing has been lost.
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

TEST(updates_that_cannot_go_home_stay_readable_until_they_can) {
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

TEST(the_background_goes_on_writing_once_the_disk_has_room) {
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

TEST(a_file_cut_short_fails_those_who_ask_for_what_is_gone) {
  for (const char* engine : {"auto", "pread", "mmap"}) {
    StoreBench bench(of_rows(16), {.engine = engine});
    const Table& table = bench.add_table("t", 1024, 16);  // 32 rows a block
    Threads threads;
    threads.start([&] { look_up_until_stopped(bench, table, 256, threads); });
    const std::uint64_t middle = table.offset_of({512});
    std::filesystem::resize_file(bench.path(), middle);
    for (std::int64_t row : {512, 700, 1023}) {
      CHECK_THROWS(SystemFailure, bench.lookup(table, {row}), "it was cut short");
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

TEST(a_row_is_served_though_its_neighbour_in_the_same_read_is_gone) {
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

TEST(a_read_that_fails_leaves_nothing_behind) {
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

TEST(a_flush_tells_of_a_write_that_the_disk_lost_in_the_background) {
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

TEST(a_flush_tells_of_a_disk_that_does_not_sync) {
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

TEST(a_disk_that_fills_up_takes_nothing_that_was_there) {
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
      const TablePart part{&table};
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

/// Every allocation of the call in turn fails. The call says so or gets by without; whatever it was
/// about to do, the next one finds everything in order.
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

TEST(a_call_that_gets_no_memory_leaves_nothing_behind) {
  for (faults::Call what : {faults::Call::allocate, faults::Call::map}) {
    StoreBench bench(of_rows(8));
    const Table& table = bench.add_table("t", 400, 4);
    std::mt19937_64 random(1);
    std::uint64_t version = 0;
    Rows rows;
    std::vector<std::uint64_t> latest(400, 0);
    const auto check_order = [&] {
      Threads threads;  // with buffers of its own: it would wait for ever on a read nobody makes
      threads.start([&] {
        const auto versions = bench.lookup(table, rows_from(0, 400));
        for (std::size_t row = 0; row < 400; ++row) CHECK(versions[row] >= latest[row]);
      });
      threads.join();
      CHECK_EQ(bench.store().stats().pinned_rows, 0);
      rows.clear();
      for (int i = 0; i < 12; ++i) rows.push_back(static_cast<std::int64_t>(random() % 400));
    };
    check_order();
    const TablePart part{&table};
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
    fail_every_allocation(bench, what, [&] { bench.update(table, rows, ++version); }, check_order);
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

TEST(the_background_survives_where_it_gets_no_memory) {
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

/// A caller's arrays may be changed by another of its threads: wrong, but no reason to go outside
/// of anybody's memory.
TEST(arrays_that_change_during_a_call_lead_nowhere_else) {
  StoreBench bench(of_rows(8));
  const Table& table = bench.add_table("t", 5000, 4);
  const TablePart parts[] = {{&table}, {&table}};
  std::mt19937_64 random(1);
  Rows indices;
  Rows offsets;
  const auto caller = std::this_thread::get_id();
  bool changing = false;
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (std::this_thread::get_id() != caller || !changing) return;
    for (Rows* array : {&indices, &offsets}) {
      for (std::int64_t& value : *array) {
        if (random() % 3 == 0) value = static_cast<std::int64_t>(random() >> random() % 64);
      }
    }
  };
  bench.pool().before_write = [&](std::uint64_t, std::size_t) { bench.pool().before_read({}); };
  std::size_t refused = 0;
  const auto attempt = [&](auto call) {
    changing = true;
    try {
      call();
    } catch (const std::invalid_argument&) {
      ++refused;
    } catch (const std::out_of_range&) {
      ++refused;
    }
    changing = false;
  };
  for (int round = 0; round < 30; ++round) {
    indices = rows_from(0, 5000);
    offsets = {0, 1, 4300, 4310, 4400, 4999};  // the first table's misses fill a batch
    std::vector<double> out(6 * 4);
    BagCall call = StoreBench::call_of(parts, 2, indices);
    call.offsets = integers(offsets);
    call.bags = 3;
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = 8 * sizeof(double);
    call.out_dtype = DType::float64;
    attempt([&] { bench.store().embedding_bag(call); });
    indices = rows_from(100, 60);
    const std::vector<double> values(60 * 4);
    attempt([&] {
      bench.store().update(table, integers(indices),
                           reinterpret_cast<const std::byte*>(values.data()));
    });
  }
  CHECK(refused > 20);
}

TEST(a_forked_child_may_not_use_the_store_and_the_parent_goes_on) {
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

TEST(a_store_that_gets_no_threads_says_so) {
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

/// What runs alone waits for a batch of the background's writes, not for all that it has to do.
TEST(nobody_is_held_off_for_as_long_as_the_background_writes) {
  StoreBench bench(of_rows(8000));
  const Table& table = bench.add_table("t", 8000, 2);
  std::atomic<std::size_t> writes{0};
  bench.pool().before_write = [&](std::uint64_t, std::size_t) {
    ++writes;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  };
  const std::size_t dirty = 3000;
  bench.update(table, rows_from(0, static_cast<std::int64_t>(dirty)), 1);
  wait_until([&] { return writes > 0; });
  const std::size_t before = writes;
  bench.store().reset_stats();
  CHECK(writes - before <= 512);
  // Nor for all that another's flush has to.
  Threads threads;
  threads.start([&] { bench.store().flush(); });
  const std::size_t flushing = writes;
  wait_until([&] { return writes > flushing + 10 || bench.store().stats().dirty_rows == 0; });
  const std::size_t then = writes;
  bench.store().reset_stats();
  CHECK(writes - then <= 512);
  threads.join();
  CHECK_EQ(bench.store().stats().dirty_rows, 0);
}

TEST(figures_are_gathered_without_holding_up_the_fast_tier) {
  StoreBench bench(of_rows(40000));  // large enough for huge pages, which are asked after
  const Table& table = bench.add_table("t", 50000, 4);
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

TEST(wide_rows_are_written_back_without_much_memory) {
  StoreBench bench(of_rows(8));
  const Table& table = bench.store().create_table("t", 4, 1u << 18, DType::float64);  // 2 MiB
  const std::vector<double> values(1u << 18, 1.0);
  const Rows rows{2};
  bench.store().update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  const std::size_t before = faults::allocated_bytes();
  bench.store().flush();
  CHECK(faults::allocated_bytes() - before <= 16u << 20);
}

TEST(a_prefetched_row_is_useful_useless_or_late_but_once) {
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

TEST(updates_beside_a_new_table_are_kept) {
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
