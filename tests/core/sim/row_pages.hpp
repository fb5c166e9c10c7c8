// row_pages.hpp: the pages of tables whose rows lie in the order of their ids.
#pragma once

#include <span>

#include "sim/device_reads.hpp"

namespace tieralloc {

/// Table t has the rows from [t] to [t + 1], and begins with a page of its own.
inline RowPages pages_in_id_order(std::span<const RowId> table_starts,
                                  std::uint32_t rows_per_page) {
  RowPages pages;
  std::uint32_t first_page = 0;
  for (std::size_t table = 0; table + 1 < table_starts.size(); ++table) {
    const RowId rows = table_starts[table + 1] - table_starts[table];
    for (RowId row = 0; row < rows; ++row) {
      pages.push_back(first_page + static_cast<std::uint32_t>(row / rows_per_page));
    }
    if (rows > 0) first_page = pages.back() + 1;
  }
  return pages;
}

}  // namespace tieralloc
