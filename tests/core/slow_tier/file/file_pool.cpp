// file_pool.cpp: the slow tier's file made, opened, grown, locked, and damaged.
#include "slow_tier/file/file_pool.hpp"

#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "small_disk.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TableLayout layout(const std::string& name, std::uint64_t rows, std::uint32_t stride) {
  return {.name = name, .rows = rows, .dim = stride / 4, .dtype = DType::float32, .stride = stride};
}

std::vector<std::byte> contents(const std::string& path) {
  const OpenFile file(path, O_RDONLY);
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  CHECK_EQ(pread(file.fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

void overwrite(const std::string& path, std::uint64_t offset, std::vector<std::byte> bytes) {
  const OpenFile file(path, O_WRONLY);
  CHECK_EQ(pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
           static_cast<ssize_t>(bytes.size()));
}

/// The errno and path that an expression fails with.
template <typename Body>
std::pair<int, std::string> failure_of(Body body) {
  try {
    body();
  } catch (const SystemFailure& failure) {
    return {failure.code, failure.path};
  }
  return {0, ""};
}

class Waiter final : public ReadListener {
 public:
  void on_completions() noexcept override {}
};

/// One block of the pool.
std::vector<std::byte> read_block(FilePool& pool, std::uint64_t offset) {
  Region buffer(4096, "test");
  ReadOp op;
  op.offset = offset;
  op.length = 4096;
  op.buffer = buffer.data();
  Waiter waiter;
  pool.read({&op, 1}, waiter);
  CHECK_EQ(op.result.load(), 0);
  return {buffer.data(), buffer.data() + 4096};
}

/// Sets one row; `row` is dense.
void set_row(FilePool& pool, const TableLayout& table, std::uint64_t row,
             const std::vector<std::byte>& bytes) {
  const TableRow place{row};
  pool.update(table, {&place, 1}, bytes.data());
}

/// The value of a row as a lookup finds it.
std::vector<std::byte> read_row(FilePool& pool, const TableLayout& table, std::uint64_t row) {
  const RowAddress address = table.address({row});
  std::vector<std::byte> value(table.stride);
  if (pool.find_updated(address, value)) return value;
  BufferPool buffers(1 << 20);
  FetchBatch batch(pool, buffers, 1);
  batch.add(address, false);
  batch.read([](std::uint32_t, std::uint32_t) {});
  CHECK_EQ(batch.wait(0), 0);
  std::memcpy(value.data(), batch.bytes(0), value.size());
  return value;
}

TEST(new_pool_is_empty_and_opens_again) {
  TempDir dir;
  {
    const auto pool = FilePool::create(dir / "f", {});
    CHECK(pool->tables().empty());
    CHECK_EQ(pool->bytes(), file_format::kDataOffset);
    CHECK_EQ(pool->kind(), "file");
    CHECK_EQ(pool->path(), dir / "f");
  }
  CHECK(FilePool::open(dir / "f", {})->tables().empty());
}

TEST(tables_reopen_with_their_rows) {
  TempDir dir;
  std::vector<TableLayout> made;
  {
    const auto pool = FilePool::create(dir / "f", {});
    for (std::uint64_t i = 0; i < 5; ++i) {
      made.push_back(pool->add_table(layout("t" + std::to_string(i), 100 + i, 64 + 64 * i)));
      const std::vector<std::byte> row(64 + 64 * i, static_cast<std::byte>(i + 1));
      set_row(*pool, made[i], 1, row);
      pool->load(made[i], {2}, 1, row.data());
    }
    pool->sync();
  }
  const auto pool = FilePool::open(dir / "f", {});
  const std::vector<TableLayout> found = pool->tables();
  CHECK_EQ(found.size(), made.size());
  std::uint64_t end = file_format::kDataOffset;
  for (std::size_t i = 0; i < made.size(); ++i) {
    CHECK_EQ(found[i].name, made[i].name);
    CHECK_EQ(found[i].offset, made[i].offset);
    CHECK(found[i].offset >= end);
    end = found[i].offset + found[i].pages.bytes(found[i].rows);
    CHECK(pool->bytes() >= end);
    for (std::uint64_t row = 0; row < 5; ++row) {
      const bool is_set = row == 1 || row == 2;
      const std::vector<std::byte> value(found[i].stride, std::byte(is_set ? i + 1 : 0));
      CHECK(read_row(*pool, found[i], row) == value);
    }
  }
}

TEST(existing_file_is_not_overwritten) {
  TempDir dir;
  make_patterned_file(dir / "f", 100);
  const auto failure = failure_of([&] { FilePool::create(dir / "f", {}); });
  CHECK_EQ(failure.first, EEXIST);
  CHECK_EQ(failure.second, dir / "f");
  CHECK(is_pattern(contents(dir / "f").data(), 0, 100));
}

TEST(unopenable_file_reports_the_reason) {
  TempDir dir;
  CHECK_EQ(failure_of([&] { FilePool::open(dir / "none", {}); }).first, ENOENT);
  CHECK_EQ(failure_of([&] { FilePool::create(dir / "no/f", {}); }).first, ENOENT);
  CHECK_EQ(failure_of([&] { FilePool::open(dir / "", {}); }).first, EISDIR);
  {
    FilePool::create(dir / "f", {});
  }
  chmod((dir / "f").c_str(), 0444);
  CHECK_EQ(failure_of([&] { FilePool::open(dir / "f", {}); }).first, EACCES);
}

TEST(file_has_one_owner_at_a_time) {
  TempDir dir;
  auto pool = FilePool::create(dir / "f", {});
  CHECK_EQ(failure_of([&] { FilePool::open(dir / "f", {}); }).first, EWOULDBLOCK);
  const pid_t child = fork();
  if (child == 0) {
    _exit(failure_of([&] { FilePool::open(dir / "f", {}); }).first == EWOULDBLOCK ? 0 : 1);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  pool.reset();
  FilePool::open(dir / "f", {});
}

std::size_t count_files(const TempDir& dir) {
  const std::filesystem::directory_iterator files(dir / "");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

TEST(open_as_each_mode_opens_or_makes) {
  TempDir dir;
  for (FileMode mode : {FileMode::read, FileMode::update}) {
    CHECK_EQ(failure_of([&] { FilePool::open_as(mode, dir / "f", {}); }).first, ENOENT);
  }
  for (FileMode mode : {FileMode::append, FileMode::write}) {
    const auto pool = FilePool::open_as(mode, dir / std::to_string(static_cast<int>(mode)), {});
    CHECK(pool->is_new());
    pool->add_table(layout("t", 10, 64));
  }
  for (FileMode mode : {FileMode::read, FileMode::update, FileMode::append, FileMode::write}) {
    const std::string path = dir / std::to_string(static_cast<int>(FileMode::append));
    const auto pool = FilePool::open_as(mode, path, {});
    CHECK_EQ(pool->is_new(), mode == FileMode::write);
    CHECK_EQ(pool->tables().size(), mode == FileMode::write ? 0 : 1);
  }
  CHECK_EQ(count_files(dir), 2);
}

TEST(readers_share_a_file_and_writers_do_not) {
  TempDir dir;
  {
    FilePool::create(dir / "f", {});
  }
  const auto first = FilePool::open_as(FileMode::read, dir / "f", {});
  const auto second = FilePool::open_as(FileMode::read, dir / "f", {});
  for (FileMode mode : {FileMode::update, FileMode::append, FileMode::write}) {
    CHECK_EQ(failure_of([&] { FilePool::open_as(mode, dir / "f", {}); }).first, EWOULDBLOCK);
  }
  CHECK_EQ(failure_of([&] { second->add_table(layout("t", 10, 64)); }).first, EACCES);
  const std::vector<std::byte> row(64);
  const TableLayout table = layout("t", 10, 64);
  CHECK_EQ(failure_of([&] { set_row(*second, table, 1, row); }).first, EACCES);
  CHECK_EQ(failure_of([&] { second->load(table, {1}, 1, row.data()); }).first, EACCES);
  second->write_back();
  second->sync();
  second->drop_caches();
}

TEST(failed_replacement_leaves_the_former_file) {
  TempDir dir;
  {
    FilePool::create(dir / "f", {})->add_table(layout("t", 10, 64));
  }
  const std::vector<std::byte> before = contents(dir / "f");
  for (faults::Call call : {faults::Call::reserve, faults::Call::write, faults::Call::sync}) {
    faults::Fault fault(call, ENOSPC);
    const auto failure = failure_of([&] { FilePool::open_as(FileMode::write, dir / "f", {}); });
    CHECK_EQ(failure.first, ENOSPC);
    CHECK_EQ(failure.second, dir / "f");
  }
  CHECK_THROWS(std::invalid_argument,
               FilePool::open_as(FileMode::write, dir / "f", {.engine = "none"}), "none");
  CHECK(contents(dir / "f") == before);
  CHECK_EQ(count_files(dir), 1);
  make_patterned_file(dir / "g", 4096);
  CHECK_THROWS(std::invalid_argument, FilePool::open_as(FileMode::write, dir / "g", {}),
               (dir / "g") + ": not a tieralloc file; mode 'w' replaces no other file");
  CHECK(is_pattern(contents(dir / "g").data(), 0, 4096));
}

TEST(forked_child_does_not_keep_the_lock) {
  TempDir dir;
  int ready[2];
  int wake[2];
  CHECK(pipe(ready) == 0 && pipe(wake) == 0);
  char byte = 0;
  pid_t child;
  {
    const auto pool = FilePool::create(dir / "f", {});
    child = fork();
    if (child == 0) {
      close(wake[1]);
      (void)!write(ready[1], &byte, 1);
      _exit(read(wake[0], &byte, 1) == 0 ? 0 : 1);
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
  }
  close(ready[0]);
  close(ready[1]);
  close(wake[0]);
  FilePool::open(dir / "f", {});
  close(wake[1]);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

TEST(foreign_file_is_refused_and_unchanged) {
  TempDir dir;
  for (std::size_t size : {0, 1, 31, 32, 4096, 3 << 20}) {
    make_patterned_file(dir / "f", size);
    CHECK_THROWS(std::invalid_argument, FilePool::open(dir / "f", {}),
                 (dir / "f") + ": not a tieralloc file");
    const std::vector<std::byte> bytes = contents(dir / "f");
    CHECK(bytes.size() == size && is_pattern(bytes.data(), 0, size));
  }
}

TEST(truncated_file_is_refused) {
  TempDir dir;
  std::uint64_t size;
  {
    const auto pool = FilePool::create(dir / "f", {});
    pool->add_table(layout("first", 1000, 64));
    pool->add_table(layout("second", 1000, 64));
    size = pool->bytes();
  }
  std::filesystem::resize_file(dir / "f", size - 4096);
  CHECK_THROWS(std::invalid_argument, FilePool::open(dir / "f", {}),
               "truncated: " + std::to_string(size - 4096) + " bytes, but table 'second' ends at ");
  CHECK_EQ(std::filesystem::file_size(dir / "f"), size - 4096);
  std::filesystem::resize_file(dir / "f", 1000);
  CHECK_THROWS(std::invalid_argument, FilePool::open(dir / "f", {}), "");
}

TEST(newer_file_is_refused) {
  TempDir dir;
  {
    FilePool::create(dir / "f", {});
  }
  for (std::uint64_t at : {std::uint64_t{0}, file_format::kSuperblockBytes}) {
    overwrite(dir / "f", at + 8, {static_cast<std::byte>(file_format::kVersion + 1)});
  }
  CHECK_THROWS(std::invalid_argument, FilePool::open(dir / "f", {}),
               (dir / "f") + ": file format version 6, this tieralloc reads up to version 5");
}

TEST(one_valid_superblock_is_enough) {
  TempDir dir;
  {
    const auto pool = FilePool::create(dir / "f", {});
    pool->add_table(layout("first", 10, 64));
    pool->add_table(layout("second", 10, 64));
  }
  const std::vector<std::byte> noise(200, std::byte{0x77});
  for (std::uint64_t at : {std::uint64_t{0}, file_format::kSuperblockBytes}) {
    const std::string path = dir / std::to_string(at);
    std::filesystem::copy_file(dir / "f", path);
    overwrite(path, at + 100, noise);
    {
      const auto pool = FilePool::open(path, {});
      CHECK_EQ(pool->tables().size(), 2);
      pool->add_table(layout("third", 10, 64));  // makes both whole again
    }
    overwrite(path, file_format::kSuperblockBytes - at, noise);
    CHECK_EQ(FilePool::open(path, {})->tables().size(), 3);
    overwrite(path, at, noise);
    CHECK_THROWS(std::invalid_argument, FilePool::open(path, {}), "its header is damaged");
  }
}

/// Whatever goes wrong when a table is added, the pool and its file stay as they were, and the next
/// attempt succeeds.
void fail_to_add_a_table(FilePoolOptions options, faults::Call call, int error) {
  TempDir dir;
  auto pool = FilePool::create(dir / "f", options);
  pool->add_table(layout("first", 1000, 64));
  const std::uint64_t size = pool->bytes();
  {
    faults::Fault fault(call, error);
    const auto failure = failure_of([&] { pool->add_table(layout("second", 1000, 64)); });
    CHECK_EQ(failure.first, error);
    CHECK_EQ(failure.second, dir / "f");
    CHECK(fault.struck() > 0);
  }
  CHECK_EQ(pool->bytes(), size);
  CHECK_EQ(pool->tables().size(), 1);
  pool.reset();
  pool = FilePool::open(dir / "f", options);
  CHECK_EQ(pool->tables().size(), 1);
  pool->add_table(layout("second", 1000, 64));
  pool.reset();
  CHECK_EQ(FilePool::open(dir / "f", options)->tables().size(), 2);
}

TEST(table_without_room_leaves_the_file_unchanged) {
  fail_to_add_a_table({}, faults::Call::reserve, ENOSPC);
}
TEST(failed_directory_write_leaves_the_file_unchanged) {
  fail_to_add_a_table({}, faults::Call::write, ENOSPC);
  fail_to_add_a_table({.reserve = false}, faults::Call::write, EIO);
}
TEST(failed_directory_sync_leaves_the_file_unchanged) {
  fail_to_add_a_table({}, faults::Call::sync, EIO);
}

TEST(file_system_without_fallocate_works) {
  TempDir dir;
  faults::Fault fault(faults::Call::reserve, EOPNOTSUPP);
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 1000, 64));
  CHECK(pool->bytes() >= table.offset + 64000);
  const std::vector<std::byte> block = read_block(*pool, table.offset);
  CHECK(block == std::vector<std::byte>(4096));
}

TEST(failed_create_leaves_no_file) {
  TempDir dir;
  for (faults::Call call : {faults::Call::reserve, faults::Call::write, faults::Call::sync}) {
    faults::Fault fault(call, ENOSPC);
    CHECK_EQ(failure_of([&] { FilePool::create(dir / "f", {}); }).first, ENOSPC);
    CHECK(!std::filesystem::exists(dir / "f"));
  }
  CHECK_THROWS(std::invalid_argument, FilePool::create(dir / "f", {.engine = "none"}), "none");
  CHECK(!std::filesystem::exists(dir / "f"));
}

TEST(table_beyond_any_disk_is_refused) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const std::uint64_t size = pool->bytes();
  const int code =
      failure_of([&] { pool->add_table(layout("t", std::uint64_t{1} << 44, 4096)); }).first;
  CHECK(code == EFBIG || code == ENOSPC);
  CHECK_EQ(pool->bytes(), size);
  CHECK(pool->tables().empty());
}

TEST(full_disk_fails_add_table_without_change) {
  on_small_disk(8 << 20, [](const std::string& disk) {
    const auto pool = FilePool::create(disk + "/f", {});
    const TableLayout first = pool->add_table(layout("first", 1000, 64));
    const std::vector<std::byte> row(64, std::byte{9});
    pool->load(first, {0}, 1, row.data());
    const std::uint64_t size = pool->bytes();
    const auto failure = failure_of([&] { pool->add_table(layout("large", 200000, 64)); });
    CHECK_EQ(failure.first, ENOSPC);
    CHECK_EQ(failure.second, disk + "/f");
    CHECK_EQ(pool->bytes(), size);
    CHECK_EQ(pool->tables().size(), 1);
    CHECK(read_block(*pool, first.offset)[0] == std::byte{9});
    // What it had taken in trying is free again.
    pool->add_table(layout("second", 80000, 64));
    CHECK_EQ(failure_of([&] { FilePool::create(disk + "/g", {}); }).first, ENOSPC);
    CHECK(!std::filesystem::exists(disk + "/g"));
  });
}

TEST(full_disk_fails_writes_without_reserve) {
  on_small_disk(4 << 20, [](const std::string& disk) {
    const auto pool = FilePool::create(disk + "/f", {.reserve = false});
    const TableLayout table = pool->add_table(layout("large", 200000, 64));
    const std::vector<std::byte> rows(16384 * 64, std::byte{1});
    std::uint64_t loaded = 0;
    const auto failure = failure_of([&] {
      for (; loaded < 12; ++loaded) pool->load(table, {loaded * 16384}, 16384, rows.data());
    });
    CHECK_EQ(failure.first, ENOSPC);
    CHECK(failure.second == disk + "/f" || failure.second == disk + "/f.log-1");
    // Rows are loaded as a whole or stay as they were.
    const std::vector<std::byte> one(64, std::byte{1}), zero(64);
    for (std::uint64_t row = 0; row < 200000; row += 999) {
      const std::vector<std::byte> value = read_row(*pool, table, row);
      CHECK(value == one || (value == zero && row >= loaded * 16384));
    }
  });
}

TEST(pool_reads_by_every_engine) {
  TempDir dir;
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    for (bool direct : {false, true}) {
      const std::string path = dir / (engine + (direct ? "d" : "b"));
      const auto pool = FilePool::create(path, {.engine = engine, .direct = direct});
      CHECK(pool->engine().find(engine) == 0);
      if (!direct) CHECK(pool->engine().find("buffered") != std::string::npos);
      const TableLayout table = pool->add_table(layout("t", 1000, 64));
      for (int i = 0; i < 20; ++i) {
        // Each write is seen by the read after it, past the page cache or through it.
        const std::vector<std::byte> row(64, static_cast<std::byte>(i + 1));
        if (i % 2 == 0) {
          pool->load(table, {1}, 1, row.data());
        } else {
          set_row(*pool, table, 1, row);
        }
        pool->write_back();
        CHECK(!pool->has_updated_rows());
        const std::vector<std::byte> block = read_block(*pool, table.offset);
        CHECK(is_valid_page(block.data(), 4096, table.offset));
        CHECK(std::memcmp(block.data() + 64, row.data(), 64) == 0);
        CHECK(block[0] == std::byte{0} && block[128] == std::byte{0});
      }
    }
  }
}

TEST(dropped_caches_take_no_memory) {
  TempDir dir;
  const auto pool = FilePool::create(dir / "f", {});
  const TableLayout table = pool->add_table(layout("t", 100000, 64));
  const std::vector<std::byte> rows(64 << 16, std::byte{3});
  pool->load(table, {0}, 1 << 16, rows.data());
  const std::uint64_t before = pool->cached_bytes();
  if (before == 0) SKIP("this file system tells of no page cache");
  CHECK(before >= rows.size());
  pool->drop_caches();
  if (pool->cached_bytes() == before) SKIP("this file system keeps its pages, as tmpfs does");
  CHECK(pool->cached_bytes() <= before / 8);
  CHECK(read_block(*pool, table.offset)[0] == std::byte{3});
}

}  // namespace
