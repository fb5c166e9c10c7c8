// order_area.cpp: tables with an order reopened, with damaged copies of the order, and loaded.
#include "slow_tier/file/order_area.hpp"

#include <cstring>
#include <numeric>
#include <random>

#include "check.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "slow_tier/random_order.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Bytes = std::vector<std::byte>;

TableLayout arranged_table(const std::string& name, std::uint64_t rows, std::mt19937_64& random) {
  TableLayout table{.name = name, .rows = rows, .dim = 64};
  table.stride = stride_of(table.dim, table.dtype);
  table.pages = PageLayout::paged(table.stride);
  while (table.order == nullptr) arrange_randomly(table, random);
  return table;
}

void flip(const std::string& path, std::uint64_t at) {
  const OpenFile file(path, O_RDWR);
  std::byte byte;
  CHECK_EQ(pread(file.fd(), &byte, 1, static_cast<off_t>(at)), 1);
  byte ^= std::byte{4};
  CHECK_EQ(pwrite(file.fd(), &byte, 1, static_cast<off_t>(at)), 1);
}

void check_rows(SlowPool& pool, const TableLayout& table, const std::vector<float>& first_values) {
  BufferPool buffers(4 << 20);
  FetchBatch batch(pool, buffers, table.rows);
  Bytes value(table.stride);
  std::vector<std::uint64_t> read;
  for (std::uint64_t row = 0; row < table.rows; ++row) {
    if (pool.find_updated(table.address({row}), value)) {
      CHECK(std::memcmp(value.data(), &first_values[row], sizeof(float)) == 0);
    } else {
      batch.add(table.address({row}), false);
      read.push_back(row);
    }
  }
  batch.read([](std::uint32_t, std::uint32_t) {});
  for (std::uint32_t i = 0; i < read.size(); ++i) {
    CHECK_EQ(batch.wait(i), 0);
    CHECK(std::memcmp(batch.bytes(i), &first_values[read[i]], sizeof(float)) == 0);
  }
}

TEST(order_reopens_with_its_table) {
  std::mt19937_64 random(1);
  TempDir dir;
  std::vector<TableLayout> made;
  {
    const auto pool = FilePool::create(dir / "f", {});
    for (const std::uint64_t rows : {1, 20, 1000, 50'000}) {
      made.push_back(pool->add_table(arranged_table("t" + std::to_string(rows), rows, random)));
    }
  }
  const auto pool = FilePool::open(dir / "f", {});
  const std::vector<TableLayout> found = pool->tables();
  CHECK_EQ(found.size(), made.size());
  for (std::size_t i = 0; i < made.size(); ++i) {
    CHECK_EQ(found[i].arranged_pages, made[i].arranged_pages);
    for (std::uint64_t row = 0; row < made[i].rows; ++row) {
      CHECK_EQ(found[i].address({row}).offset(), made[i].address({row}).offset());
    }
  }
}

TEST(one_valid_copy_of_an_order_is_enough) {
  std::mt19937_64 random(2);
  for (const bool has_second : {true, false}) {
    TempDir dir;
    TableLayout table;
    {
      const auto pool = FilePool::create(dir / "f", {});
      table = pool->add_table(arranged_table("item", 3000, random));
    }
    const std::uint64_t copy = (file_format::table_end(table) - table.pages_end()) / 2;
    flip(dir / "f", table.pages_end() + random() % 40);
    if (has_second) {
      CHECK_EQ(FilePool::open(dir / "f", {})->tables()[0].address({7}).offset(),
               table.address({7}).offset());
      continue;
    }
    flip(dir / "f", table.pages_end() + copy + 41);
    CHECK_THROWS(std::invalid_argument, FilePool::open(dir / "f", {}),
                 (dir / "f") + ": table 'item': both copies of its order are damaged");
  }
}

TEST(rows_loaded_in_any_order_equal_a_plain_array) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20; ++i) {
    TempDir dir;
    const auto pool = FilePool::create(dir / "f", {});
    const TableLayout table = pool->add_table(arranged_table("item", 1 + random() % 900, random));
    std::vector<float> model(table.rows);
    for (int call = 0; call < 6; ++call) {
      std::vector<TableRow> rows;
      const std::uint64_t first = call < 2 ? 0 : random() % table.rows;
      const std::uint64_t end = call < 2 ? table.rows : first + 1 + random() % (table.rows - first);
      for (std::uint64_t row = first; row < end; ++row) rows.push_back({row});
      if (random() % 2 == 0) std::shuffle(rows.begin(), rows.end(), random);
      if (random() % 2 == 0) {
        std::sort(rows.begin(), rows.end(), [&](const TableRow& a, const TableRow& b) {
          return table.address(a).offset() < table.address(b).offset();
        });
      }
      std::vector<float> values(rows.size() * table.dim);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        model[rows[row].value] = values[row * table.dim] = static_cast<float>(random() % 1000);
      }
      pool->load_rows(table, rows, reinterpret_cast<const std::byte*>(values.data()));
      if (random() % 2 == 0) pool->settle();
      if (random() % 3 == 0) pool->write_back();
      check_rows(*pool, table, model);
    }
    pool->write_back();
    check_rows(*pool, table, model);
    CHECK(pool->damaged_pages(table, 0, table.num_pages()).empty());
  }
}

}  // namespace
