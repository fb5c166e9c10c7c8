// row_extents.hpp: the places of a table whose rows lie in several pieces of a pool, in row order.
//
// Immutable once a table has it. Cost of a search: O(log pieces).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// Rows from `first_row` up to that of the next extent.
struct RowExtent {
  TableRow first_row;
  std::uint64_t offset = 0;  ///< of `first_row`
};

using RowExtents = std::vector<RowExtent>;  ///< ascending; the first has row 0

inline const RowExtent& extent_of(const RowExtents& extents, TableRow row) {
  const auto after = std::upper_bound(
      extents.begin(), extents.end(), row,
      [](TableRow wanted, const RowExtent& extent) { return wanted < extent.first_row; });
  return *(after - 1);
}

}  // namespace tieralloc
