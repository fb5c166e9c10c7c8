// device_reads.cpp: pages against their definition, and reads against sets of pages.
#include "sim/device_reads.hpp"

#include <random>
#include <set>
#include <stdexcept>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(pages_in_id_order_start_anew_with_each_table) {
  const std::vector<RowId> starts{0, 7, 7, 8, 20};
  for (const std::uint32_t rows_per_page : {1u, 3u, 4u, 100u}) {
    const RowPages pages = pages_in_id_order(starts, rows_per_page);
    CHECK_EQ(pages.size(), 20);
    std::uint32_t first = 0;
    for (std::size_t table = 0; table + 1 < starts.size(); ++table) {
      const RowId rows = starts[table + 1] - starts[table];
      for (RowId row = 0; row < rows; ++row) {
        CHECK_EQ(pages[starts[table] + row], first + row / rows_per_page);
      }
      first += static_cast<std::uint32_t>((rows + rows_per_page - 1) / rows_per_page);
    }
  }
  CHECK(pages_in_id_order({}, 4).empty());
  CHECK_THROWS(std::invalid_argument, pages_in_id_order(starts, 0),
               "rows_per_page: expected at least 1, got 0");
}

TEST(device_reads_read_each_page_once_per_request) {
  std::mt19937_64 random(1);
  RowPages pages;
  for (int row = 0; row < 100; ++row) pages.push_back(random() % 30);
  DeviceReads reads(pages, 100);
  for (int request = 0; request < 200; ++request) {
    reads.begin_request();
    std::set<std::uint32_t> read;
    for (std::uint64_t i = random() % 20; i > 0; --i) {
      const RowId row = random() % 100;
      CHECK_EQ(reads.add(row), read.insert(pages[row]).second);
    }
  }
}

TEST(device_reads_without_pages_read_each_row) {
  DeviceReads reads({}, 10);
  reads.begin_request();
  CHECK(reads.add(0) && reads.add(1));
}

TEST(device_reads_of_invalid_pages_throw) {
  CHECK_THROWS(std::invalid_argument, DeviceReads({0, 1}, 3),
               "pages: expected one per row, 3, got 2");
  CHECK_THROWS(std::invalid_argument, DeviceReads({0, 3, 4}, 3),
               "pages: row 1: expected a page below 3, the number of rows, got 3");
}

}  // namespace
