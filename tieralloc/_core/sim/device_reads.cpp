// device_reads.cpp: numbers of pages.
#include "sim/device_reads.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {

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
