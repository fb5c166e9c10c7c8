// next_row.hpp: fetches the rows whose numbers follow.
//
// Tagged sequential prefetching (Smith, "Cache memories", Computing Surveys 1982): an on-demand
// fetch, and the first use of a row that was fetched ahead, have the next ones fetched. Not for
// concurrent use.
#pragma once

#include "row_prefetcher.hpp"

namespace tieralloc {

class NextRow final : public RowPrefetcher {
 public:
  /// Fetches `degree` of rows 0 … rows-1. Throws std::invalid_argument for a degree of 0.
  NextRow(std::uint32_t degree, std::uint64_t rows);

  void observe(RowId row, Found found, std::vector<RowId>& ahead) override;
  std::size_t bytes() const override { return sizeof(*this); }

 private:
  std::uint32_t degree_;
  std::uint64_t rows_;
};

}  // namespace tieralloc
