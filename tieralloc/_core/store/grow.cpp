// grow.cpp: further rows for a table while calls go on.
//
//   find space for the rows behind the table, or copy its pages to a larger space
//   write a superblock with the new layout
//   exclude calls for a moment: install tiers for it
//   move the resident rows (resize.cpp); free the former space
//
// Writers wait from the first step to the last but one.
#include <optional>
#include <stdexcept>
#include <string>

#include "store/store.hpp"

namespace tieralloc {

void Store::grow_table(const Table& table, std::uint64_t rows) {
  std::optional<TableLayout> former;
  change_layout([&]() -> Relocation {
    check_live(table);
    const TableLayout present = layout_of(table);
    if (rows < present.rows) {
      throw std::invalid_argument("rows: a table does not shrink; expected at least the " +
                                  std::to_string(present.rows) + " of table '" + present.name +
                                  "', got " + std::to_string(rows));
    }
    if (rows == present.rows) return {};
    check_size(present.name, rows, present.dim, present.stride);
    check_not_recorded("resize");
    std::vector<TableLayout> layouts = this->layouts();
    layouts[table.position].rows = rows;
    {
      ReadGuard guard(epochs_);
      check_fast_memory(plan_table(layouts, table.position), held_bytes());
    }
    former = present;
    layouts[table.position] = pool_->prepare_growth(present, rows);
    try {
      return replace_layout(budget_, layouts, &tables_[table.position]);
    } catch (...) {
      pool_->free_space(layouts[table.position]);
      throw;
    }
  });
  if (former) pool_->free_space(*former);
}

}  // namespace tieralloc
