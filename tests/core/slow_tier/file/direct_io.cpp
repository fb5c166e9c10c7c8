// direct_io.cpp: the second descriptor of a file, and the choice between direct and buffered reads.
#include "slow_tier/file/direct_io.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

class NoListener final : public ReadListener {
 public:
  void on_completions() noexcept override {}
};

/// The first byte of a table's second row.
std::byte read_row(FilePool& pool, const TableLayout& table) {
  const Region buffer(kPage, "test");
  ReadOp op;
  op.offset = table.offset;
  op.length = kPage;
  op.buffer = buffer.data();
  NoListener listener;
  pool.read({&op, 1}, listener);
  CHECK_EQ(op.result.load(), 0);
  return buffer.data()[table.stride];
}

void write_row(FilePool& pool, const TableLayout& table, std::byte value) {
  const std::vector<std::byte> row(table.stride, value);
  pool.load(table, {1}, 1, row.data());
  pool.write_back();
}

TableLayout add_table(FilePool& pool) {
  return pool.add_table(
      {.name = "t", .rows = 100, .dim = 16, .dtype = DType::float32, .stride = 64});
}

bool reads_are_direct(const std::string& path) {
  return FilePool::create(path, {.engine = "pread"})->engine() == "pread (O_DIRECT)";
}

TEST(alignment_beyond_a_page_is_read_through_the_page_cache) {
  TempDir dir;
  if (!reads_are_direct(dir / "direct")) SKIP("no direct I/O here");
  for (std::uint32_t bytes : {512u, 4096u, 8192u, 16384u, 65536u}) {
    const faults::DirectAlignment stated(bytes);
    const auto pool = FilePool::create(dir / std::to_string(bytes), {.engine = "pread"});
    CHECK_EQ(pool->engine(), bytes <= kPage ? "pread (O_DIRECT)"
                                            : "pread (buffered: direct I/O needs blocks of " +
                                                  std::to_string(bytes) + " bytes)");
    const TableLayout table = add_table(*pool);
    write_row(*pool, table, std::byte{5});
    CHECK(read_row(*pool, table) == std::byte{5});
  }
}

/// A file system that opens files for direct I/O, states no alignment, and refuses 4 KiB.
TEST(refused_direct_read_is_read_through_the_page_cache) {
  TempDir dir;
  if (!reads_are_direct(dir / "direct")) SKIP("no direct I/O here");
  const faults::Fault refused(faults::Call::read, EINVAL, 0, 1);
  const auto pool = FilePool::create(dir / "f", {.engine = "pread"});
  CHECK_EQ(refused.struck(), 1);
  CHECK_EQ(pool->engine(), "pread (buffered: direct reads of 4096 bytes are refused)");
  const TableLayout table = add_table(*pool);
  write_row(*pool, table, std::byte{5});
  CHECK(read_row(*pool, table) == std::byte{5});
}

TEST(pages_are_written_directly_if_the_stated_alignment_permits_it) {
  TempDir dir;
  const std::string path = dir / "f";
  FilePool::create(path, {});
  const OpenFile file(path, O_RDWR);
  const auto alignment = direct_io_alignment(file.fd());
  const ReadDescriptor reads = open_for_reads(file.fd(), path, true, false);
  const ReadDescriptor both = open_for_reads(file.fd(), path, true, true);
  CHECK(!reads.direct_writes);
  CHECK_EQ(both.direct_writes, both.direct && alignment &&
                                   std::max(alignment->memory, alignment->write_offset) <= kPage);
  const Region page(kPage, "test");
  if (both.direct_writes) CHECK_EQ(pwrite(both.fd, page.data(), kPage, kPage), kPage);
  close(reads.fd);
  close(both.fd);
}

/// Two stores' files, `f` with rows of 1 and `other` with rows of 2.
TableLayout make_two(TempDir& dir) {
  TableLayout table;
  for (const char* name : {"f", "other"}) {
    const auto pool = FilePool::create(dir / name, {});
    table = add_table(*pool);
    write_row(*pool, table, std::byte{name[0] == 'f' ? std::uint8_t{1} : std::uint8_t{2}});
  }
  return table;
}

TEST(file_renamed_while_it_is_opened_is_read_and_written_as_one) {
  for (bool direct : {false, true}) {
    TempDir dir;
    const TableLayout table = make_two(dir);
    int opens = 0;
    std::unique_ptr<FilePool> pool;
    {
      const faults::BeforeOpen hook([&](const std::string&) {
        if (++opens == 2) std::filesystem::rename(dir / "other", dir / "f");
        return 0;
      });
      pool = FilePool::open(dir / "f", {.direct = direct});
    }
    CHECK(opens >= 2);
    CHECK(read_row(*pool, table) == std::byte{1});
    write_row(*pool, table, std::byte{7});
    CHECK(read_row(*pool, table) == std::byte{7});
  }
}

TEST(file_replaced_while_it_is_opened_without_proc_is_refused) {
  TempDir dir;
  const TableLayout table = make_two(dir);
  const auto open_without_proc = [&](bool replaces) {
    const faults::BeforeOpen hook([&, replaces](const std::string& path) {
      if (!path.starts_with("/proc/")) return 0;
      if (replaces && std::filesystem::exists(dir / "other")) {
        std::filesystem::rename(dir / "other", dir / "f");
      }
      return ENOENT;
    });
    return FilePool::open(dir / "f", {});
  };
  CHECK(read_row(*open_without_proc(false), table) == std::byte{1});
  try {
    open_without_proc(true);
    CHECK(false);
  } catch (const SystemFailure& failure) {
    CHECK_EQ(failure.code, ESTALE);
    CHECK_EQ(failure.path, dir / "f");
  }
  CHECK(read_row(*FilePool::open(dir / "f", {}), table) == std::byte{2});
}

}  // namespace
