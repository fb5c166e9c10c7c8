// device_reads.cpp: numbers of pages.
#include "sim/device_reads.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {

RowPages pages_in_id_order(std::span<const RowId> table_starts, std::uint32_t rows_per_page) {
  if (rows_per_page == 0) {
    throw std::invalid_argument("rows_per_page: expected at least 1, got 0");
  }
  RowPages pages;
  if (table_starts.empty()) return pages;
  pages.reserve(table_starts.back() - table_starts.front());
  std::uint32_t page = 0;
  for (std::size_t table = 0; table + 1 < table_starts.size(); ++table) {
    std::uint32_t in_page = 0;
    for (RowId row = table_starts[table]; row < table_starts[table + 1]; ++row) {
      if (in_page == rows_per_page) {
        ++page;
        in_page = 0;
      }
      pages.push_back(page);
      ++in_page;
    }
    if (in_page > 0) ++page;
  }
  return pages;
}

DeviceReads::DeviceReads(RowPages pages, std::uint64_t rows) : pages_(std::move(pages)) {
  if (pages_.empty()) return;
  if (pages_.size() != rows) {
    throw std::invalid_argument("pages: expected one per row, " + std::to_string(rows) + ", got " +
                                std::to_string(pages_.size()));
  }
  const auto invalid = std::ranges::find_if(pages_, [rows](auto page) { return page >= rows; });
  if (invalid != pages_.end()) {
    throw std::invalid_argument("pages: row " + std::to_string(invalid - pages_.begin()) +
                                ": expected a page below " + std::to_string(rows) +
                                ", the number of rows, got " + std::to_string(*invalid));
  }
  last_request_.resize(std::size_t{*std::ranges::max_element(pages_)} + 1);
}

}  // namespace tieralloc
