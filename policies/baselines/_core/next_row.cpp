#include "next_row.hpp"

namespace tieralloc::baselines {

NextRow::NextRow(std::uint32_t degree, std::uint64_t rows) : degree_(degree), rows_(rows) {
  check_setting("degree", degree, 1, 1 << 10);
}

void NextRow::observe(RowId row, Found found, std::vector<RowId>& prefetches) {
  if (found == Found::resident) return;
  for (RowId next = row + 1; next <= row + degree_ && next < rows_; ++next)
    prefetches.push_back(next);
}

}  // namespace tieralloc::baselines
