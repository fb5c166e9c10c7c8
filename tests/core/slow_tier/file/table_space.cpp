// table_space.cpp: space of dropped tables, taken by later ones, and the format of such files.
#include <sys/stat.h>

#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/file/file_format.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TableLayout space_layout(const std::string& name, std::uint64_t rows) {
  return {.name = name, .rows = rows, .dim = 16, .dtype = DType::float32, .stride = 64};
}

std::uint64_t size_of(const std::string& path) {
  struct stat status;
  CHECK_EQ(stat(path.c_str(), &status), 0);
  return static_cast<std::uint64_t>(status.st_size);
}

void drop(FilePool& pool, const TableLayout& table) {
  pool.remove_table(table);
  pool.free_space(table);
}

TEST(a_table_takes_the_first_gap_that_is_large_enough) {
  TempDir dir;
  const std::string path = dir / "f";
  {
    auto pool = FilePool::create(path, {});
    const TableLayout first = pool->add_table(space_layout("first", 1000));
    const TableLayout second = pool->add_table(space_layout("second", 5000));
    const TableLayout third = pool->add_table(space_layout("third", 1000));
    const std::uint64_t size = size_of(path);
    drop(*pool, first);
    drop(*pool, second);
    CHECK_EQ(pool->add_table(space_layout("large", 6500)).offset, size);
    CHECK_EQ(pool->add_table(space_layout("middle", 3000)).offset, first.offset);  // of both gaps
    const TableLayout small = pool->add_table(space_layout("small", 1000));
    CHECK(small.offset > first.offset);
    CHECK(small.pages_end() <= third.offset);
  }
  auto pool = FilePool::open(path, {});
  std::vector<std::string> names;
  for (const TableLayout& table : pool->tables()) names.push_back(table.name);
  CHECK(names == std::vector<std::string>({"third", "large", "middle", "small"}));
}

TEST(dropping_the_last_table_shortens_the_file) {
  TempDir dir;
  const std::string path = dir / "f";
  auto pool = FilePool::create(path, {});
  const TableLayout first = pool->add_table(space_layout("first", 1000));
  const std::uint64_t size = size_of(path);
  const TableLayout second = pool->add_table(space_layout("second", 5000));
  drop(*pool, second);
  CHECK_EQ(size_of(path), size);
  drop(*pool, first);
  CHECK_EQ(size_of(path), file_format::kDataOffset);
  CHECK_EQ(pool->add_table(space_layout("third", 10)).offset, file_format::kDataOffset);
}

TEST(a_removed_table_stays_out_after_a_crash_before_its_space_is_free) {
  TempDir dir;
  const std::string path = dir / "f";
  std::vector<float> values(1000 * 16, 3.0f);
  {
    auto pool = FilePool::create(path, {});
    const TableLayout first = pool->add_table(space_layout("first", 1000));
    pool->add_table(space_layout("second", 10));
    pool->load(first, {0}, 1000, reinterpret_cast<const std::byte*>(values.data()));
    pool->settle();
    pool->remove_table(first);
  }
  auto pool = FilePool::open(path, {});
  CHECK_EQ(pool->tables().size(), 1);
  const TableLayout again = pool->add_table(space_layout("again", 1000));
  CHECK_EQ(again.offset, file_format::kDataOffset);
  Region page(kPage, "test");
  ReadOp op;
  op.offset = again.offset;
  op.length = kPage;
  op.buffer = page.data();
  NoListener listener;
  pool->read({&op, 1}, listener);
  CHECK_EQ(op.result.load(), 0);
  for (std::size_t i = 0; i < kPage; ++i) CHECK(page.data()[i] == std::byte{0});
}

TEST(the_version_of_a_file_is_the_least_that_has_its_tables) {
  file_format::Directory directory{.store_id = 1, .tables = {}};
  for (const std::uint64_t offset : {4, 3, 8}) {
    directory.tables.push_back(space_layout("t" + std::to_string(offset), 10));
    directory.tables.back().offset = offset << 20;
  }
  const auto encoded = [&] { return file_format::encode(directory); };
  file_format::Directory decoded;
  CHECK(file_format::decode(encoded().data(), encoded().size(), decoded));
  CHECK_EQ(decoded.version, 4);
  CHECK_EQ(decoded.tables[1].offset, 3 << 20);
  CHECK_EQ(decoded.end(), (8 << 20) + kPage);
  directory.tables[1].offset = directory.tables[0].offset;  // both in one place
  directory.tables[2].offset = 3 << 20;
  CHECK(!file_format::decode(encoded().data(), encoded().size(), decoded));
  directory.tables.erase(directory.tables.begin() + 1, directory.tables.end());
  CHECK(file_format::decode(encoded().data(), encoded().size(), decoded));
  CHECK_EQ(decoded.version, 2);
}

}  // namespace
