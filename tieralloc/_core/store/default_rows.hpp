// default_rows.hpp: the rows of a batch whose indices are outside of their table, and which are
// served as its default row.
//
// They have row 0's number, so that every step of a lookup works on rows of the table; then their
// addresses are replaced.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"
#include "store/bag_call.hpp"

namespace tieralloc {

class DefaultRows {
 public:
  bool empty() const { return places_.empty(); }
  std::size_t size() const { return places_.size(); }
  void clear() { places_.clear(); }

  /// Replaces the numbers of rows outside, those of indices[begin] and on, by a mark.
  static void mark(const Integers& indices, std::size_t begin, std::uint64_t table_rows,
                   std::vector<TierRow>& rows) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (static_cast<std::uint64_t>(indices[begin + i]) >= table_rows) rows[i] = {kNoRow};
    }
  }

  /// Notes the places of marked rows, which become row `first`.
  void place(std::vector<TierRow>& rows, TierRow first) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].value != kNoRow) continue;
      rows[i] = first;
      places_.push_back(static_cast<std::uint32_t>(i));
    }
  }

  /// Sets the addresses of those among `n` rows from `first` on. Returns how many had none.
  std::size_t fill(std::size_t first, std::size_t n, const std::byte* default_row,
                   std::vector<const std::byte*>& addresses) const {
    std::size_t absent = 0;
    auto place = std::lower_bound(places_.begin(), places_.end(), first);
    for (; place != places_.end() && *place < first + n; ++place) {
      absent += addresses[*place] == nullptr;
      addresses[*place] = default_row;
    }
    return absent;
  }

 private:
  std::vector<std::uint32_t> places_;  ///< in the batch, ascending
};

}  // namespace tieralloc
