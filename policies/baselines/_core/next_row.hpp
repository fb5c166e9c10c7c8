// next_row.hpp: prefetches the rows whose numbers follow.
//
// Tagged sequential prefetching (Smith, "Cache memories", Computing Surveys 1982): an on-demand
// fetch, and the first use of a prefetched row, prefetch the next rows. Not for concurrent use.
#pragma once

#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

class NextRow final : public RowPrefetcher {
 public:
  /// Prefetches `degree` of rows 0 … rows-1. Throws std::invalid_argument for a degree of 0.
  NextRow(std::uint32_t degree, std::uint64_t rows);

  void observe(RowId row, Found found, std::vector<RowId>& prefetches) override;
  std::size_t bytes() const override { return sizeof(*this); }

 private:
  std::uint32_t degree_;
  std::uint64_t rows_;
};

}  // namespace tieralloc::baselines
