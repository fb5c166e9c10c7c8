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
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Bytes = std::vector<std::byte>;

TableLayout layout(const std::string& name, std::uint64_t rows, std::uint32_t stride) {
  return {.name = name, .rows = rows, .dim = stride / 4, .dtype = DType::float32, .stride = stride};
}

/// A row has its version in every word.
Bytes values_of(const TableLayout& table, std::size_t rows, std::uint64_t version) {
  Bytes values(rows * table.row_bytes());
  for (std::size_t at = 0; at < values.size(); at += 8) std::memcpy(&values[at], &version, 8);
  return values;
}
std::uint64_t version_in(const std::byte* row, std::size_t bytes) {
  std::uint64_t first = 0;
  std::memcpy(&first, row, 8);
  for (std::size_t at = 0; at < bytes; at += 8) CHECK(std::memcmp(row + at, &first, 8) == 0);
  return first;
}

void update(SlowPool& pool, const TableLayout& table, const std::vector<TableRow>& rows,
            std::uint64_t version) {
  pool.update(table, rows, values_of(table, rows.size(), version).data());
}
void load(SlowPool& pool, const TableLayout& table, std::uint64_t first, std::uint64_t rows,
          std::uint64_t version) {
  pool.load(table, {first}, rows, values_of(table, rows, version).data());
}

/// Versions of rows, as lookups find them. Each row is whole.
std::vector<std::uint64_t> read_rows(SlowPool& pool, const TableLayout& table,
                                     const std::vector<TableRow>& rows) {
  static BufferPool buffers(4 << 20);
  std::vector<std::uint64_t> versions(rows.size());
  std::vector<std::size_t> places;
  FetchBatch batch(pool, buffers, rows.size());
  Bytes value(table.stride);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (pool.find_updated(table.address(rows[i]), value)) {
      versions[i] = version_in(value.data(), table.row_bytes());
    } else {
      batch.add(table.address(rows[i]), false);
      places.push_back(i);
    }
  }
  batch.read([](std::uint32_t, std::uint32_t) {});
  for (std::uint32_t i = 0; i < places.size(); ++i) {
    CHECK_EQ(batch.wait(i), 0);
    versions[places[i]] = version_in(batch.bytes(i), table.row_bytes());
  }
  return versions;
}

std::vector<TableRow> rows_from(std::uint64_t first, std::uint64_t count) {
  std::vector<TableRow> rows;
  for (std::uint64_t i = 0; i < count; ++i) rows.push_back({first + i});
  return rows;
}

Bytes contents(const std::string& path, std::uint64_t at, std::size_t bytes) {
  const OpenFile file(path, O_RDONLY);
  Bytes content(bytes);
  CHECK_EQ(pread(file.fd(), content.data(), bytes, static_cast<off_t>(at)),
           static_cast<ssize_t>(bytes));
  return content;
}
void overwrite(const std::string& path, std::uint64_t at, const Bytes& bytes) {
  const OpenFile file(path, O_WRONLY);
  CHECK_EQ(pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
           static_cast<ssize_t>(bytes.size()));
}

template <typename Body>
int code_of(Body body) {
  try {
    body();
  } catch (const SystemFailure& failure) {
    return failure.code;
  }
  return 0;
}

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

// Version 1 of the format.

struct HeaderV1 {
  char magic[8];
  std::uint32_t version, table_count;
  std::uint64_t generation, checksum;
};
struct RecordV1 {
  char name[192];
  std::uint64_t rows, offset;
  std::uint32_t dim, dtype, stride, reserved[9];
};

void make_file_of_version_1(const std::string& path, std::uint64_t rows, std::uint32_t stride) {
  std::vector<std::byte> block(sizeof(HeaderV1) + sizeof(RecordV1));
  HeaderV1 header{{'T', 'I', 'E', 'R', 'A', 'L', 'O', 'C'}, 1, 1, 5, 0};
  RecordV1 record{};
  std::strcpy(record.name, "old");
  record.rows = rows;
  record.offset = file_format::kDataOffset;
  record.dim = stride / 4;
  record.dtype = static_cast<std::uint32_t>(DType::float32);
  record.stride = stride;
  std::memcpy(block.data() + sizeof header, &record, sizeof record);
  std::memcpy(block.data(), &header, sizeof header);
  header.checksum = 0xCBF29CE484222325u;  // FNV-1a
  for (const std::byte byte : block) {
    header.checksum = (header.checksum ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3u;
  }
  std::memcpy(block.data(), &header, sizeof header);
  make_patterned_file(path, file_format::kDataOffset + round_up(rows * stride, kPage));
  for (const std::uint64_t at : {std::uint64_t{0}, file_format::kSuperblockBytes}) {
    overwrite(path, at, block);
  }
}

TEST(file_of_version_1_opens_to_read_only) {
  TempDir dir;
  for (const std::uint32_t stride : {64u, 192u, 4160u}) {
    make_file_of_version_1(dir / "f", 500, stride);
    for (const FileMode mode : {FileMode::update, FileMode::append}) {
      CHECK_THROWS(std::invalid_argument, FilePool::open_as(mode, dir / "f", {}),
                   "file format version 1 can only be read");
    }
    const auto pool = FilePool::open_as(FileMode::read, dir / "f", {});
    CHECK_EQ(pool->tables().size(), 1);
    const TableLayout table = pool->tables()[0];
    CHECK_EQ(table.name, "old");
    BufferPool buffers(1 << 20);
    FetchBatch batch(*pool, buffers, 500);
    for (std::uint64_t row = 0; row < 500; ++row) batch.add(table.address({row}), false);
    batch.read([](std::uint32_t, std::uint32_t) {});
    for (std::uint32_t row = 0; row < 500; ++row) {
      CHECK_EQ(batch.wait(row), 0);
      const std::uint64_t offset = file_format::kDataOffset + std::uint64_t{row} * stride;
      CHECK(is_pattern(batch.bytes(row), offset, stride));
    }
    CHECK_EQ(code_of([&] { update(*pool, table, {{1}}, 1); }), EACCES);
    CHECK_EQ(code_of([&] { load(*pool, table, 0, 1, 1); }), EACCES);
    CHECK_EQ(code_of([&] { pool->add_table(layout("new", 1, 64)); }), EACCES);
    pool->sync();
    pool->write_back();
    pool->commit();
    CHECK(!pool->has_updated_rows());
    CHECK_EQ(pool->updates().dirty_rows, 0);
    CHECK_EQ(pool->describe(table.offset + stride), "table 'old', rows 1 to 1");
  }
}

}  // namespace
