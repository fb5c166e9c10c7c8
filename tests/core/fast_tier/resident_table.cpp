// resident_table.cpp: patches, and tables in DRAM against an array, with concurrent readers.
#include "fast_tier/resident_table.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "store/store_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kRows = 500;
constexpr std::uint32_t kDim = 9;

TableLayout layout_of(std::uint64_t rows, std::uint32_t dim) {
  return {.name = "t", .rows = rows, .dim = dim, .dtype = DType::float32, .stride = 64};
}

const std::byte* bytes_of(const std::vector<float>& values) {
  return reinterpret_cast<const std::byte*>(values.data());
}

/// The rows that a reader sees.
std::vector<float> read(ResidentTable& table, EpochManager& epochs, const std::vector<RowId>& rows,
                        std::uint32_t dim) {
  std::vector<const std::byte*> addresses(rows.size());
  std::vector<float> values(rows.size() * dim);
  ReadGuard guard(epochs);
  guard.begin_read();
  table.locate(rows, addresses.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(&values[i * dim], addresses[i], dim * sizeof(float));
  }
  guard.end_read();
  return values;
}

TEST(patch_has_the_last_value_of_a_repeated_row) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<TableRow> rows(random() % 40);
    std::vector<float> values(rows.size());
    std::vector<int> last(50, -1);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i] = {random() % 50};
      values[i] = static_cast<float>(i);
      last[rows[i].value] = static_cast<int>(i);
    }
    const RowPatch patch(rows, bytes_of(values));
    std::size_t visited = 0;
    for (RowId row = 0; row < 50; ++row) {
      const std::byte* found = patch.find({row}, sizeof(float));
      CHECK(found == (last[row] < 0 ? nullptr : bytes_of(values) + 4 * last[row]));
      visited += found != nullptr;
    }
    patch.each(sizeof(float), [&](TableRow row, const std::byte* bytes) {
      CHECK(bytes == patch.find(row, sizeof(float)));
      --visited;
    });
    CHECK_EQ(visited, 0);
  }
}

TEST(patch_of_a_range_has_its_rows) {
  const std::vector<float> values(6);
  const RowPatch patch({10}, 3, bytes_of(values));
  for (RowId row = 0; row < 20; ++row) {
    const std::byte* found = patch.find({row}, 8);
    CHECK(found == (row >= 10 && row < 13 ? bytes_of(values) + (row - 10) * 8 : nullptr));
  }
}

TEST(resident_table_equals_an_array) {
  std::mt19937_64 random(2);
  for (const std::uint32_t dim : {1u, 4u, 9u, 16u, 33u}) {
    EpochManager epochs;
    const TableLayout layout = layout_of(kRows, dim);
    ResidentTable table(layout, epochs);
    CHECK_EQ(table.bytes(), ResidentTable::bytes_for(layout));
    CHECK(table.bytes() < kRows * (layout.row_bytes() + 16) + kPage);
    std::vector<float> expected(kRows * dim);
    for (int step = 0; step < 300; ++step) {
      std::vector<TableRow> rows(random() % 30);
      std::vector<float> values(rows.size() * dim);
      for (float& value : values) value = static_cast<float>(random() % 1000);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i] = {random() % kRows};
        std::copy_n(&values[i * dim], dim, &expected[rows[i].value * dim]);
      }
      table.write({rows, bytes_of(values)});
      std::vector<RowId> wanted(random() % 60);
      std::vector<float> wanted_values;
      for (RowId& row : wanted) {
        row = random() % kRows;
        wanted_values.insert(wanted_values.end(), &expected[row * dim], &expected[row * dim] + dim);
      }
      CHECK(read(table, epochs, wanted, dim) == wanted_values);
    }
  }
}

/// Rows have their version in every element; a reader sees whole rows, and no older version later.
TEST(readers_of_a_resident_table_see_whole_rows) {
  EpochManager epochs;
  ResidentTable table(layout_of(kRows, kDim), epochs);
  std::atomic<std::uint64_t> done{0};
  Threads threads;
  threads.start([&] {
    std::mt19937_64 random(3);
    for (std::uint64_t version = 1; version <= stressed(3000); ++version) {
      const RowId first = random() % (kRows - 40);
      const std::vector<float> values(kRows * kDim, static_cast<float>(version));
      if (version % 50 == 0) {
        table.write({{0}, kRows, bytes_of(values)});
        done = version;  // every row has this version or a later one
        continue;
      }
      std::vector<TableRow> rows;
      for (RowId row = first; row < first + 40; row += 1 + random() % 4) rows.push_back({row});
      table.write({rows, bytes_of(values)});
    }
    threads.stop();
  });
  for (int reader = 0; reader < 3; ++reader) {
    threads.start([&, reader] {
      std::mt19937_64 random(10 + reader);
      std::vector<float> newest(kRows);
      while (!threads.stopped()) {
        std::vector<RowId> rows(1 + random() % 200);
        for (RowId& row : rows) row = random() % kRows;
        const auto at_least = static_cast<float>(done);
        const std::vector<float> values = read(table, epochs, rows, kDim);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const float version = values[i * kDim];
          for (std::size_t j = 1; j < kDim; ++j) CHECK_EQ(values[i * kDim + j], version);
          CHECK(version >= at_least && version >= newest[rows[i]]);
          newest[rows[i]] = version;
        }
      }
    });
  }
  threads.join();
}

StoreOptions of_bytes(std::uint64_t bytes) {
  StoreOptions options;
  options.budget.bytes = bytes;
  return options;
}

TEST(resident_tables_have_the_values_of_log_and_pages) {
  StoreBench bench(of_bytes(4 << 20));
  bench.add_table("t", kRows, kDim);
  const Table& table = *bench.store().tables()[0];
  bench.update(table, rows_from(0, 100), 1);
  bench.pool().write_back();
  bench.update(table, rows_from(50, 100), 2);
  bench.load(table, 140, 100, 3);
  for (int time = 0; time < 2; ++time) {
    const Table& read = *bench.store().tables()[0];
    CHECK(bench.store().is_resident(read));
    const auto versions = bench.lookup(read, rows_from(0, kRows));
    for (std::size_t row = 0; row < kRows; ++row) {
      CHECK_EQ(versions[row], row < 50 ? 1 : row < 140 ? 2 : row < 240 ? 3 : 0);
    }
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.hits, kRows);
    CHECK_EQ(stats.on_demand_fetches, 0);
    CHECK_EQ(stats.resident_rows, kRows);
    CHECK_EQ(stats.resident_tables, 1);
    bench.reopen();
  }
}

TEST(table_whose_first_read_fails_is_served_by_a_tier) {
  StoreBench bench(of_bytes(4 << 20));
  bench.add_table("t", kRows, kDim);
  bench.reopen();
  bool is_first = true;
  bench.pool().before_read = [&](std::span<ReadOp>) {
    if (std::exchange(is_first, false)) throw SystemFailure(EIO, "test", "");
  };
  const Table& table = *bench.store().tables()[0];
  CHECK(!bench.store().is_resident(table));
  CHECK(bench.lookup(table, rows_from(0, kRows)) == std::vector<std::uint64_t>(kRows, 0));
  CHECK(bench.store().stats().on_demand_fetches > 0);
}

}  // namespace
