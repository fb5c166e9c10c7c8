// slow_offsets.hpp: the place of each row of a tier in the slow pool.
//
// Immutable. Cost: O(log tables).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// Rows from `first_row` up to that of the next extent lie at `offset` and after.
struct SlowExtent {
  TierRow first_row;
  std::uint64_t offset = 0;
};

class SlowOffsets {
 public:
  SlowOffsets(std::vector<SlowExtent> extents, std::uint32_t stride)
      : extents_(std::move(extents)), stride_(stride) {}

  std::uint64_t of(TierRow row) const {
    const auto after = std::upper_bound(
        extents_.begin(), extents_.end(), row,
        [](TierRow wanted, const SlowExtent& extent) { return wanted < extent.first_row; });
    const SlowExtent& extent = *(after - 1);
    return extent.offset + (row - extent.first_row).value * stride_;
  }

 private:
  const std::vector<SlowExtent> extents_;  ///< in ascending order
  const std::uint32_t stride_;
};

}  // namespace tieralloc
