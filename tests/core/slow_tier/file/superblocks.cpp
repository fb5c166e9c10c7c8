// superblocks.cpp: the directory after power cuts at any step of its replacement.
#include "slow_tier/file/superblocks.hpp"

#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using file_format::Directory;
using file_format::kDataOffset;
using file_format::kSuperblockBytes;

using Bytes = std::vector<std::byte>;

Directory directory_of(std::uint64_t tables) {
  Directory directory{.store_id = 9, .first_log = tables, .last_log = tables, .tables = {}};
  for (std::uint64_t i = 0; i < tables; ++i) {
    TableLayout table{.name = "t" + std::to_string(i), .rows = 100, .dim = 16, .stride = 64};
    table.offset = kDataOffset + i * 8192;
    table.pages = PageLayout::paged(64);
    directory.tables.push_back(table);
  }
  return directory;
}

struct Bench {
  TempDir dir;
  std::string path = dir / "file";
  std::unique_ptr<OpenFile> file;
  int syncs = 0;
  std::unique_ptr<Superblocks> blocks;

  Bench() {
    make_patterned_file(path, 0);
    file = std::make_unique<OpenFile>(path, O_RDWR);
    grow(kDataOffset);
    blocks = std::make_unique<Superblocks>(file->fd(), path, [this] { ++syncs; });
  }
  void grow(std::uint64_t size) { std::filesystem::resize_file(path, size); }
  Bytes both() const {
    Bytes bytes(kDataOffset);
    CHECK_EQ(pread(file->fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  void put(std::uint64_t at, const Bytes& bytes) {
    CHECK_EQ(pwrite(file->fd(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
             static_cast<ssize_t>(bytes.size()));
  }
  std::size_t tables_after_reopening() const {
    Superblocks other(file->fd(), path, [] {});
    other.read();
    CHECK_EQ(other.directory().first_log, other.directory().tables.size());
    return other.directory().tables.size();
  }
};

TEST(superblock_without_its_tables_is_passed_over) {
  Bench bench;
  for (std::uint64_t tables = 1; tables < 5; ++tables) {
    bench.grow(kDataOffset + (tables - 1) * 8192);
    if (tables > 1) {
      const Bytes before = bench.both();
      bench.blocks->write(directory_of(tables));
      const Bytes after = bench.both();
      // Either superblock is new, and the file too short for the new table.
      for (const std::uint64_t at : {std::uint64_t{0}, kSuperblockBytes}) {
        bench.put(0, before);
        bench.put(at, {after.begin() + static_cast<std::ptrdiff_t>(at),
                       after.begin() + static_cast<std::ptrdiff_t>(at + kSuperblockBytes)});
        CHECK_EQ(bench.tables_after_reopening(), tables - 1);
      }
      bench.put(0, after);
      CHECK_THROWS(std::invalid_argument, bench.tables_after_reopening(), "truncated: ");
      bench.grow(kDataOffset + tables * 8192);
      CHECK_EQ(bench.tables_after_reopening(), tables);
    } else {
      bench.grow(kDataOffset + 8192);
      bench.blocks->write(directory_of(1));
    }
  }
}

/// Every prefix of the first superblock's write, over noise: the former directory counts.
TEST(torn_superblock_leaves_the_former_one) {
  Bench bench;
  bench.grow(kDataOffset + 4 * 8192);
  bench.blocks->write(directory_of(1));
  bench.blocks->write(directory_of(2));
  const Bytes before = bench.both();
  bench.blocks->write(directory_of(3));
  const Bytes after = bench.both();
  const std::size_t length = file_format::encode(directory_of(3)).size();
  for (const std::uint64_t at : {std::uint64_t{0}, kSuperblockBytes}) {
    for (std::size_t prefix = 0; prefix < length; prefix += 7) {
      bench.put(0, before);
      bench.put(at, {after.begin() + static_cast<std::ptrdiff_t>(at),
                     after.begin() + static_cast<std::ptrdiff_t>(at + prefix)});
      const std::size_t tables = bench.tables_after_reopening();
      CHECK(tables == 2 || (tables == 3 && prefix + 40 > length));
    }
  }
}

TEST(failed_superblock_write_changes_nothing) {
  Bench bench;
  bench.grow(kDataOffset + 4 * 8192);
  bench.blocks->write(directory_of(1));
  {
    faults::Fault fault(faults::Call::write, EIO, 0, 1);
    CHECK_THROWS(SystemFailure, bench.blocks->write(directory_of(2)), "cannot write");
  }
  CHECK_EQ(bench.blocks->directory().tables.size(), 1);
  CHECK_EQ(bench.tables_after_reopening(), 1);
  {
    faults::Fault fault(faults::Call::write, EIO, 1, 1);  // the second copy
    bench.blocks->write(directory_of(2));
  }
  CHECK_EQ(bench.tables_after_reopening(), 2);
  bench.syncs = 0;
  bench.blocks->write(directory_of(3));
  CHECK_EQ(bench.syncs, 2);
  CHECK_EQ(bench.tables_after_reopening(), 3);
}

}  // namespace
