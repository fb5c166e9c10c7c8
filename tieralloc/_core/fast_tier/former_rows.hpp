// former_rows.hpp: where rows of a tier are in the tiers that it replaces.
//
// A new budget or a new table makes new tiers, which begin empty. The rows of the former tiers move
// to them while calls go on: in the background, and those that a call needs at once. Only the owner
// of the new tier's lock uses the former tiers, whose locks it takes second. A row is in one of
// both.
//
// Immutable. Cost: O(log ranges).
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

class FastTier;

/// Rows of one tier that are rows of another one too, under other numbers.
struct RowRange {
  FastTier* from = nullptr;
  TierRow first_from{};
  FastTier* to = nullptr;
  TierRow first_to{};
  RowId rows = 0;
};

class FormerRows {
 public:
  FormerRows() = default;
  /// Ranges to one tier, in ascending order.
  explicit FormerRows(std::vector<RowRange> ranges) : ranges_(std::move(ranges)) {}

  bool empty() const { return ranges_.empty(); }

  struct Place {
    FastTier* tier = nullptr;  ///< null: the row is in no former tier
    TierRow row{};
  };
  Place find(TierRow row) const {
    const auto after = std::upper_bound(
        ranges_.begin(), ranges_.end(), row,
        [](TierRow wanted, const RowRange& range) { return wanted < range.first_to; });
    if (after == ranges_.begin()) return {};
    const RowRange& range = *(after - 1);
    const TableRow at = row - range.first_to;
    return at.value < range.rows ? Place{range.from, range.first_from + at} : Place{};
  }

 private:
  std::vector<RowRange> ranges_;
};

}  // namespace tieralloc
