// device_reads.hpp: the pages of a simulated slow tier, and the device reads of requests.
//
// A request reads each page once, whatever number of its rows it needs: a device read is a page
// read. Two requests share no reads. Not for concurrent use. A row takes O(1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// By row: the number of its page.
using RowPages = std::vector<std::uint32_t>;

class DeviceReads {
 public:
  /// Without `pages` each row is a page. Throws std::invalid_argument for another number of pages
  /// than `rows`, and for a page that is not below `rows`, naming the first one.
  DeviceReads(RowPages pages, std::uint64_t rows);

  void begin_request() { ++request_; }

  /// Whether the request reads the row's page now; false if it has read that before. Without pages,
  /// the rows of a request are different ones.
  bool add(RowId row) {
    if (pages_.empty()) return true;
    std::uint64_t& last = last_request_[pages_[row]];
    const bool is_first = last != request_;
    last = request_;
    return is_first;
  }

 private:
  RowPages pages_;
  std::vector<std::uint64_t> last_request_;  ///< by page
  std::uint64_t request_ = 1;
};

}  // namespace tieralloc
