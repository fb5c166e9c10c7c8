// write_back.cpp: updates and loads of a file pool after kills, failed syncs and full logs, and
// lookups beside write-backs.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>

#include "base/error.hpp"
#include "base/limits.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/pool_rows.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using namespace tieralloc::pool_rows;

std::size_t count_files(const TempDir& dir) {
  const std::filesystem::directory_iterator files(dir / "");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

TEST(updates_are_in_the_log_of_the_next_process) {
  TempDir dir;
  {
    const auto pool = FilePool::create(dir / "f", {});
    const TableLayout table = pool->add_table(layout("t", 1000, 192));
    update(*pool, table, rows_from(10, 50), 3);
    update(*pool, table, rows_from(30, 50), 4);
    CHECK_EQ(count_files(dir), 2);
  }
  for (int i = 0; i < 2; ++i) {
    const auto pool = FilePool::open(dir / "f", {});
    const TableLayout table = pool->tables()[0];
    CHECK_EQ(pool->updates().dirty_rows, 70);
    const auto versions = read_rows(*pool, table, rows_from(0, 1000));
    for (std::size_t row = 0; row < 1000; ++row) {
      CHECK_EQ(versions[row], row < 10 || row >= 80 ? 0 : row < 30 ? 3 : 4);
    }
  }
  const auto pool = FilePool::open(dir / "f", {});
  pool->write_back();
  CHECK_EQ(pool->updates().dirty_rows, 0);
  CHECK_EQ(count_files(dir), 1);
}

TEST(reader_finds_updates_and_changes_no_file) {
  TempDir dir;
  {
    const auto pool = FilePool::create(dir / "f", {});
    update(*pool, pool->add_table(layout("t", 1000, 192)), rows_from(10, 50), 3);
  }
  const std::uint64_t size = std::filesystem::file_size(dir / "f");
  const std::uint64_t log_size = std::filesystem::file_size(dir / "f.log-1");
  const Bytes file = contents(dir / "f", 0, size);
  const Bytes log = contents(dir / "f.log-1", 0, log_size);
  {
    const auto pool = FilePool::open(dir / "f", {}, true);
    const TableLayout table = pool->tables()[0];
    const auto versions = read_rows(*pool, table, rows_from(0, 100));
    for (std::size_t row = 0; row < 100; ++row)
      CHECK_EQ(versions[row], row >= 10 && row < 60 ? 3 : 0);
    CHECK_EQ(code_of([&] { update(*pool, table, {{1}}, 1); }), EACCES);
    pool->write_back();
    pool->sync();
  }
  CHECK(contents(dir / "f", 0, size) == file);
  CHECK(contents(dir / "f.log-1", 0, log_size) == log);
}

TEST(missing_log_is_an_error_that_names_it) {
  TempDir dir;
  {
    const auto pool = FilePool::create(dir / "f", {});
    update(*pool, pool->add_table(layout("t", 10, 64)), {{1}}, 3);
  }
  std::filesystem::rename(dir / "f.log-1", dir / "moved");
  for (const FileMode mode : {FileMode::read, FileMode::update, FileMode::append}) {
    try {
      FilePool::open_as(mode, dir / "f", {});
      CHECK(false);
    } catch (const SystemFailure& failure) {
      CHECK_EQ(failure.code, ENOENT);
      CHECK_EQ(failure.path, dir / "f.log-1");
    }
  }
}

TEST(update_larger_than_a_segment_is_one_frame) {
  TempDir dir;
  const std::uint32_t stride = 1 << 20;
  const std::uint64_t rows = kLogSegmentBytes / stride + 3;
  {
    const auto pool = FilePool::create(dir / "f", {.reserve = false});
    const TableLayout table = pool->add_table(layout("t", 2 * rows, stride));
    update(*pool, table, rows_from(0, 2), 1);
    update(*pool, table, rows_from(0, rows), 2);
    CHECK_EQ(read_rows(*pool, table, {{0}, {rows - 1}, {rows}}),
             (std::vector<std::uint64_t>{2, 2, 0}));
  }
  const auto pool = FilePool::open(dir / "f", {});
  const TableLayout table = pool->tables()[0];
  CHECK_EQ(pool->updates().dirty_rows, rows + 2);
  pool->write_back();
  CHECK_EQ(pool->updates().dirty_rows, 0);
  CHECK_EQ(read_rows(*pool, table, {{0}, {rows - 1}, {rows}}),
           (std::vector<std::uint64_t>{2, 2, 0}));
}

/// No thread works in the background here.
TEST(full_log_is_written_back_by_the_caller) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 16, 1 << 20));
  std::uint64_t version = 0;
  while (pool->updates().write_backs == 0) {
    update(*pool, table, rows_from(0, 16), ++version);
    CHECK(pool->updates().log_bytes < 3 * kLogSegmentBytes);
  }
  CHECK(version > 2 * kLogSegmentBytes / (16 << 20) - 2);
  CHECK(read_rows(*pool, table, rows_from(0, 16)) == std::vector<std::uint64_t>(16, version));
  {
    faults::Fault fault(faults::Call::sync, EIO);
    int code = 0;
    while (code == 0) {
      code = code_of([&] { update(*pool, table, rows_from(0, 16), version + 1); });
      if (code == 0) ++version;
    }
    CHECK_EQ(code, EIO);
  }
  CHECK(read_rows(*pool, table, rows_from(0, 16)) == std::vector<std::uint64_t>(16, version));
  update(*pool, table, {{3}}, version + 1);
  CHECK_EQ(read_rows(*pool, table, {{3}})[0], version + 1);
}

/// The kernel drops pages whose write failed: what it dropped is written again from the log.
TEST(failed_sync_of_a_write_back_writes_the_rows_again) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 1000, 64));
  load(*pool, table, 0, 1000, 1);
  pool->sync();
  const Bytes before = contents(dir / "f", table.offset, table.pages.bytes(1000));
  update(*pool, table, {{1}, {100}, {900}}, 2);
  std::size_t struck = 1;
  for (std::size_t after = 0; struck > 0; ++after) {
    faults::Fault fault(faults::Call::sync, EIO, after, 1);
    const int code = code_of([&] { pool->write_back(); });
    struck = fault.struck();
    if (code == 0) continue;  // the second superblock may fail
    CHECK_EQ(pool->updates().dirty_rows, 3);
    overwrite(dir / "f", table.offset, before);
    CHECK_EQ(read_rows(*pool, table, {{1}, {100}, {900}, {2}}),
             (std::vector<std::uint64_t>{2, 2, 2, 1}));
  }
  CHECK_EQ(pool->updates().dirty_rows, 0);
  CHECK_EQ(read_rows(*pool, table, {{1}, {100}, {900}, {2}}),
           (std::vector<std::uint64_t>{2, 2, 2, 1}));
}

/// A power cut during the write-back of the only segment.
TEST(torn_page_is_read_and_written_by_the_next_process) {
  TempDir dir;
  TableLayout table;
  Bytes before, after;
  {
    const auto pool = FilePool::create(dir / "f", {});
    table = pool->add_table(layout("t", 1000, 64));
    load(*pool, table, 0, 1000, 1);
    pool->sync();
    before = contents(dir / "f", table.offset, kPage);
    update(*pool, table, {{1}, {500}}, 2);
    pool->sync();
    after = before;
    for (std::size_t syncs = 0; after == before; ++syncs) {
      faults::Fault fault(faults::Call::sync, EIO, syncs, 1);
      CHECK_EQ(code_of([&] { pool->write_back(); }), EIO);
      after = contents(dir / "f", table.offset, kPage);
    }
  }
  Bytes torn = after;
  std::copy(before.begin(), before.begin() + 512, torn.begin());
  CHECK(!is_valid_page(torn.data(), kPage, table.offset));
  overwrite(dir / "f", table.offset, torn);
  {
    const auto pool = FilePool::open(dir / "f", {}, true);
    CHECK_EQ(read_rows(*pool, table, {{0}, {1}, {2}, {500}}),
             (std::vector<std::uint64_t>{1, 2, 1, 2}));
    CHECK_EQ(pool->updates().page_errors, 0);
  }
  CHECK(contents(dir / "f", table.offset, kPage) == torn);
  const auto pool = FilePool::open(dir / "f", {});
  update(*pool, table, {{2}, {1}}, 3);
  CHECK_EQ(read_rows(*pool, table, {{0}, {1}, {2}, {500}}),
           (std::vector<std::uint64_t>{1, 3, 3, 2}));
  pool->write_back();
  CHECK_EQ(pool->updates().dirty_rows, 0);
  const auto versions = read_rows(*pool, table, rows_from(0, 1000));
  for (std::size_t row = 0; row < 1000; ++row) {
    CHECK_EQ(versions[row], row == 1 || row == 2 ? 3 : row == 500 ? 2 : 1);
  }
}

/// A lookup reads half of a page's new bytes: it waits for the other half.
TEST(page_that_is_being_written_is_read_again) {
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    TempDir dir;
    const auto pool = FilePool::create(dir / "f", {.engine = engine, .direct = false});
    const TableLayout table = pool->add_table(layout("t", 63, 64));
    load(*pool, table, 0, 63, 1);
    std::atomic<bool> is_reading{false};
    Threads threads;
    {
      const faults::SplitWrites split([&](std::uint64_t offset) {
        if (offset != table.offset) return;
        threads.start([&] {
          is_reading = true;
          CHECK_EQ(read_rows(*pool, table, {{2}}), std::vector<std::uint64_t>{1});
        });
        wait_until([&] { return is_reading.load(); });
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      });
      update(*pool, table, {{1}}, 2);
      pool->write_back();
    }
    threads.join();
    CHECK(is_reading);
    CHECK_EQ(pool->updates().page_errors, 0);
    CHECK_EQ(read_rows(*pool, table, {{1}, {2}}), (std::vector<std::uint64_t>{2, 1}));
  }
}

/// Calls `write`, and fails the sync of a new table in the middle of its write of a page: the
/// kernel reports a lost page to one sync only.
template <typename Write>
void fail_sync_beside(FilePool& pool, std::uint64_t page, Write write) {
  bool has_failed = false;
  const faults::SplitWrites split([&](std::uint64_t offset) {
    if (offset != page || has_failed) return;
    has_failed = true;
    faults::Fault fault(faults::Call::sync, EIO, 0, 1);
    CHECK_EQ(code_of([&] { pool.add_table(layout("u", 1, 64)); }), EIO);
  });
  CHECK_EQ(code_of(write), EIO);
  CHECK(has_failed);
}

TEST(sync_that_fails_beside_a_write_back_fails_it) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 63, 64));
  load(*pool, table, 0, 63, 1);
  pool->sync();
  update(*pool, table, {{3}}, 2);
  fail_sync_beside(*pool, table.offset, [&] { pool->write_back(); });
  CHECK_EQ(pool->updates().dirty_rows, 1);
  pool->write_back();
  CHECK_EQ(read_rows(*pool, table, {{3}, {4}}), (std::vector<std::uint64_t>{2, 1}));
}

TEST(sync_that_fails_beside_a_load_fails_it) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 126, 64));
  load(*pool, table, 0, 63, 1);
  pool->settle();
  const auto load_and_settle = [&] {
    load(*pool, table, 63, 63, 2);
    pool->settle();
  };
  fail_sync_beside(*pool, table.offset + kPage, load_and_settle);
  load_and_settle();  // through the log: the page is written by now
  pool->sync();
  CHECK_EQ(read_rows(*pool, table, {{0}, {63}}), (std::vector<std::uint64_t>{1, 2}));
}

/// Pages that a load was writing when the power failed count as zero, others as damaged.
TEST(torn_page_of_an_interrupted_load_is_zero) {
  for (const bool writable : {false, true}) {
    TempDir dir;
    TableLayout table;
    {
      const auto pool = FilePool::create(dir / "f", {});
      table = pool->add_table(layout("t", 1000, 64));
      load(*pool, table, 0, 63, 1);
      pool->settle();
      load(*pool, table, 63, 200, 2);  // not settled
    }
    Bytes page = contents(dir / "f", table.offset + 2 * kPage, kPage);
    std::fill(page.begin() + 512, page.begin() + 1024, std::byte{0});
    overwrite(dir / "f", table.offset + 2 * kPage, page);
    const auto pool = FilePool::open(dir / "f", {}, !writable);
    CHECK_EQ(read_rows(*pool, table, {{0}, {63}, {126}, {188}, {189}}),
             (std::vector<std::uint64_t>{1, 2, 0, 0, 2}));
    CHECK_EQ(pool->updates().page_errors, 0);
    if (!writable) continue;
    page = contents(dir / "f", table.offset, kPage);
    page[5] ^= std::byte{1};
    overwrite(dir / "f", table.offset, page);
    Bytes bytes(kPage);
    CHECK_EQ(pool->recover_page(table.offset, bytes), -EBADMSG);
  }
}

/// Damage at rest: each call names the rows, and other rows are served.
TEST(damaged_page_is_an_error_of_its_rows_only) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 1000, 64));
  load(*pool, table, 0, 1000, 1);
  pool->sync();
  pool->drop_caches();
  Bytes page = contents(dir / "f", table.offset + kPage, kPage);
  page[999] ^= std::byte{32};
  overwrite(dir / "f", table.offset + kPage, page);
  Bytes bytes(kPage);
  CHECK_EQ(pool->recover_page(table.offset + kPage, bytes), -EBADMSG);
  CHECK_EQ(pool->updates().page_errors, 1);
  CHECK_EQ(pool->describe(table.offset + kPage), "table 't', rows 63 to 125");
  CHECK_EQ(read_rows(*pool, table, {{0}, {62}, {126}}), (std::vector<std::uint64_t>{1, 1, 1}));
  update(*pool, table, {{63}, {5}}, 2);
  CHECK_EQ(read_rows(*pool, table, {{63}, {5}}), (std::vector<std::uint64_t>{2, 2}));
  pool->write_back();
  CHECK_EQ(pool->updates().dirty_rows, 1);  // stays in the log
  CHECK_EQ(pool->updates().write_back_error, "table 't', rows 63 to 125: the page is damaged");
  CHECK_EQ(read_rows(*pool, table, {{63}, {5}}), (std::vector<std::uint64_t>{2, 2}));
  update(*pool, table, rows_from(63, 63), 3);
  pool->write_back();
  CHECK_EQ(pool->updates().dirty_rows, 0);
  CHECK_EQ(read_rows(*pool, table, {{63}, {5}, {125}}), (std::vector<std::uint64_t>{3, 2, 3}));
}

TEST(table_is_named_after_its_size_is_durable) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const Bytes before = contents(dir / "f", 0, file_format::kDataOffset);
  faults::Fault fault(faults::Call::sync, EIO, 0, 1);
  CHECK_EQ(code_of([&] { pool->add_table(layout("t", 1000, 64)); }), EIO);
  CHECK(contents(dir / "f", 0, file_format::kDataOffset) == before);
}

/// A child updates, loads and writes back until it is killed. `begun` and `done` are the versions
/// of the last call, in memory that both processes have.
TEST(killed_process_loses_no_update_and_tears_no_row) {
#ifdef __SANITIZE_THREAD__
  SKIP("ThreadSanitizer may never return from a fork of a process with threads");
#endif
  struct Progress {
    std::atomic<std::uint64_t> begun[2], done[2];
  };
  auto* progress = static_cast<Progress*>(
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::mt19937_64 random(1);
  for (std::size_t round = 0; round < stressed(25); ++round) {
    TempDir dir;
    for (auto* counters : {progress->begun, progress->done}) counters[0] = counters[1] = 0;
    const std::uint32_t stride =
        round % 2 == 0 ? 64 * (1 + random() % 20) : 64 * (70 + random() % 99);
    {
      const auto pool = FilePool::create(dir / "f", {});
      pool->add_table(layout("t", 300, stride));
      pool->add_table(layout("u", 300, 64));
    }
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      const auto pool = FilePool::open(dir / "f", {});
      const std::vector<TableLayout> tables = pool->tables();
      for (std::uint64_t version = 1;; ++version) {
        const std::size_t t = version % 3 == 0 ? 1 : 0;
        progress->begun[t] = version;
        update(*pool, tables[t], rows_from(0, 300), version);  // one call: all rows or none
        progress->done[t] = version;
        if (version % 5 == 0) pool->write_back();
      }
    }
    wait_until([&] { return progress->done[0] > 0; });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    kill(child, SIGKILL);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    const auto pool = FilePool::open(dir / "f", {});
    for (std::size_t t = 0; t < 2; ++t) {
      const auto versions = read_rows(*pool, pool->tables()[t], rows_from(0, 300));
      CHECK(versions[0] >= progress->done[t] && versions[0] <= progress->begun[t]);
      for (const std::uint64_t version : versions) CHECK_EQ(version, versions[0]);
    }
    pool->write_back();
    for (std::size_t t = 0; t < 2; ++t) {
      const auto versions = read_rows(*pool, pool->tables()[t], rows_from(0, 300));
      for (const std::uint64_t version : versions) CHECK_EQ(version, versions[0]);
    }
  }
  munmap(progress, sizeof(Progress));
}

/// Readers beside updates, write-backs, loads and new tables: every row is whole and not older than
/// the last call that returned before.
void read_beside_writes(const FilePoolOptions& options, std::uint32_t stride) {
  constexpr std::uint64_t kRows = 200;
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", options);
  const TableLayout table = pool->add_table(layout("t", kRows, stride));
  std::array<std::atomic<std::uint64_t>, kRows> begun{}, done{};
  Threads threads;
  for (std::uint64_t id = 0; id < 2; ++id) {
    threads.start([&, id] {
      std::mt19937_64 random(id);
      while (!threads.stopped()) {
        std::vector<TableRow> rows(1 + random() % 30);
        std::vector<std::uint64_t> at_least;
        for (TableRow& row : rows) {
          row.value = random() % kRows;
          at_least.push_back(done[row.value]);
        }
        const auto versions = read_rows(*pool, table, rows);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          CHECK(versions[i] >= at_least[i]);
          CHECK(versions[i] <= begun[rows[i].value]);
        }
      }
    });
  }
  threads.start([&] {
    while (!threads.stopped()) {
      pool->sync();
      pool->drop_caches();
      (void)pool->updates();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  threads.start([&] { pool->work(); });
  threads.start([&] {
    std::mt19937_64 random(9);
    for (std::uint64_t version = 1; version < stressed(250) && !threads.stopped(); ++version) {
      std::uint64_t first = random() % kRows;
      std::uint64_t count = 1 + random() % std::min<std::uint64_t>(40, kRows - first);
      for (std::uint64_t row = first; row < first + count; ++row) begun[row] = version;
      if (random() % 4 == 0) {
        load(*pool, table, first, count, version);
      } else {
        update(*pool, table, rows_from(first, count), version);
      }
      for (std::uint64_t row = first; row < first + count; ++row) done[row] = version;
      if (random() % 6 == 0) pool->write_back();
      if (version % 100 == 0) pool->add_table(layout("t" + std::to_string(version), 10, 64));
    }
    threads.stop();
    pool->stop();
  });
  threads.join();
  CHECK_EQ(pool->updates().page_errors, 0);
  CHECK_EQ(pool->updates().write_back_error, "");
  pool->write_back();
  const auto versions = read_rows(*pool, table, rows_from(0, kRows));
  for (std::size_t row = 0; row < kRows; ++row) CHECK_EQ(versions[row], done[row].load());
}

TEST(rows_are_whole_beside_write_backs_by_every_engine) {
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    for (const bool direct : {false, true}) {
      read_beside_writes({.engine = engine, .direct = direct}, 64);
    }
  }
}
TEST(large_rows_are_whole_beside_write_backs) {
  read_beside_writes({}, 64 * 100);
  read_beside_writes({.engine = "pread", .direct = false}, 64 * 100);
  read_beside_writes({.sync_interval = std::chrono::milliseconds(1)}, 64 * 23);
}

}  // namespace
