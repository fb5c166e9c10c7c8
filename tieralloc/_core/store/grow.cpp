// grow.cpp: further rows for a table while calls go on.
//
//   find space for the rows behind the table, or copy its pages to a larger space
//   write a superblock with the new layout
//   exclude calls for a moment: install tiers for it
//   move the resident rows (resize.cpp); free the former space
//
// Writers wait from the first step to the last but one.
#include <stdexcept>
#include <string>

#include "store/store.hpp"

namespace tieralloc {

void Store::grow_table(const Table& table, std::uint64_t rows) {
  check_fork();
  std::lock_guard changing_layout(change_layout_);
  const TableLayout former = layout_of(table);
  Relocation relocation;
  {
    std::lock_guard changing(use_policy_);
    std::lock_guard updating(update_mutex_);
    epochs_.check_open();
    check_live(table);
    if (rows < former.rows) {
      throw std::invalid_argument("rows: a table does not shrink; expected at least the " +
                                  std::to_string(former.rows) + " of table '" + former.name +
                                  "', got " + std::to_string(rows));
    }
    if (rows == former.rows) return;
    check_size(former.name, rows, former.dim, former.stride);
    check_not_recorded("resize");
    std::vector<TableLayout> layouts = this->layouts();
    layouts[table.position].rows = rows;
    check_fast_memory(plan_table(layouts, table.position), held_bytes());
    layouts[table.position] = pool_->prepare_growth(former, rows);
    const TableLayout grown = layouts[table.position];
    try {
      relocation = replace_layout(budget_, std::move(layouts), &tables_[table.position]);
    } catch (...) {
      pool_->free_space(grown);
      throw;
    }
  }
  move_rows(relocation);
  pool_->free_space(former);
}

}  // namespace tieralloc
