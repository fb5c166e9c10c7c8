// slow_offsets.hpp: the address of each row of a tier in the slow pool.
//
// Immutable. Cost: O(log tables), and that of the table's order (slow_tier/row_order.hpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/types.hpp"
#include "slow_tier/row_order.hpp"

namespace tieralloc {

/// Rows from `first_row` up to that of the next extent lie in pages from `offset` on; arranged ones
/// from `arranged_offset` on. A table has one extent, or one per piece (slow_tier/row_extents.hpp).
struct SlowExtent {
  TierRow first_row;
  std::uint64_t offset = 0;
  PageLayout pages{};
  std::uint64_t arranged_offset = 0;
  std::shared_ptr<const RowOrder> order{};  ///< may be null
};

class SlowOffsets {
 public:
  explicit SlowOffsets(std::vector<SlowExtent> extents) : extents_(std::move(extents)) {}

  RowAddress of(TierRow row) const {
    const auto after = std::upper_bound(
        extents_.begin(), extents_.end(), row,
        [](TierRow wanted, const SlowExtent& extent) { return wanted < extent.first_row; });
    const SlowExtent& extent = *(after - 1);
    return address_in(extent.pages, extent.offset, extent.arranged_offset, extent.order.get(),
                      (row - extent.first_row).value);
  }

 private:
  const std::vector<SlowExtent> extents_;  ///< in ascending order
};

}  // namespace tieralloc
