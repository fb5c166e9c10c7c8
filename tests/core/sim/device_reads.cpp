// device_reads.cpp: pages against their definition, and reads against sets of pages.
#include "sim/device_reads.hpp"

#include <random>
#include <set>
#include <stdexcept>

#include "check.hpp"

namespace {

using namespace tieralloc;

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
