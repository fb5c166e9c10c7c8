// relocation.hpp: the tiers that a new layout replaced, and where their rows belong now.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "fast_tier/fast_tier.hpp"
#include "fast_tier/former_rows.hpp"

namespace tieralloc {

struct Relocation {
  std::vector<std::unique_ptr<FastTier>> tiers;  ///< the former ones
  std::vector<RowRange> ranges;                  ///< by former tier, in ascending order of rows

  /// Adds the rows of a table. A range that continues the last one extends it.
  void add(const RowRange& range) {
    if (!ranges.empty()) {
      RowRange& last = ranges.back();
      const TableRow length{last.rows};
      if (last.from == range.from && last.to == range.to &&
          last.first_from + length == range.first_from &&
          last.first_to + length == range.first_to) {
        last.rows += range.rows;
        return;
      }
    }
    ranges.push_back(range);
  }

  void sort() {
    std::sort(ranges.begin(), ranges.end(), [](const RowRange& a, const RowRange& b) {
      return std::pair(a.from, a.first_from) < std::pair(b.from, b.first_from);
    });
  }

  FormerRows former_of(const FastTier* to) const {
    std::vector<RowRange> own;
    for (const RowRange& range : ranges) {
      if (range.to == to) own.push_back(range);
    }
    std::sort(own.begin(), own.end(),
              [](const RowRange& a, const RowRange& b) { return a.first_to < b.first_to; });
    return FormerRows(std::move(own));
  }

  struct Place {
    FastTier* tier = nullptr;  ///< null: the row has no copy any more
    TierRow row{};
  };
  /// The new place of a row of a former tier.
  Place find(FastTier* from, TierRow row) const {
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), std::pair(from, row),
                                        [](const auto& wanted, const RowRange& range) {
                                          return wanted < std::pair(range.from, range.first_from);
                                        });
    if (after == ranges.begin()) return {};
    const RowRange& range = *(after - 1);
    if (range.from != from) return {};
    const TableRow at = row - range.first_from;
    return at.value < range.rows ? Place{range.to, range.first_to + at} : Place{};
  }
};

}  // namespace tieralloc
