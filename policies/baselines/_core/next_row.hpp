// next_row.hpp: tagged sequential prefetching (Smith, "Cache memories", Computing Surveys 1982).
//
//   on-demand fetch, or first use of a prefetched row: prefetch the rows with the next numbers
// Not for concurrent use.
#pragma once

#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

class NextRow final : public RowPrefetcher {
 public:
  /// Prefetches up to `degree` rows, of rows 0 … rows-1. Throws std::invalid_argument for a degree
  /// out of range.
  NextRow(std::uint32_t degree, std::uint64_t rows);

  void observe(RowId row, AccessResult result, std::vector<RowId>& prefetches) override;
  std::size_t bytes() const override { return sizeof(*this); }

 private:
  std::uint32_t degree_;
  std::uint64_t rows_;
};

}  // namespace tieralloc::baselines
