// drop.cpp: tables removed while calls go on.
//
//   write the redo log back; write a superblock without the table
//   exclude calls for a moment: install the tiers for the others; the table is dropped
//   move the resident rows of the others (resize.cpp); free the table's space
#include <stdexcept>
#include <string>

#include "store/store.hpp"

namespace tieralloc {

void Store::drop_table(const Table& table) {
  change_layout([&] {
    check_live(table);
    check_not_recorded("drop_table");
    std::vector<TableLayout> layouts = this->layouts();
    mark_dropped(layouts[table.position]);
    return replace_layout(budget_, std::move(layouts), &tables_[table.position]);
  });
  pool_->free_space(table.layout);
}

void Store::mark_dropped(TableLayout& layout) {
  layout.rows = 0;
  layout.order.reset();
  layout.reserved_bytes = 0;
}

/// A recorder would count rows under two numbers.
void Store::check_not_recorded(const char* call) {
  std::lock_guard lock(drain_mutex_);
  if (queue_of(AccessReader::recorder).capacity == 0) return;
  throw std::invalid_argument(
      std::string(call) + ": the store is being recorded; expected an end of the recording first");
}

/// Under an ExclusiveGuard. Accesses that no reader has drained are forgotten: they have the former
/// numbers.
void Store::renumber_tables() {
  {
    std::lock_guard lock(drain_mutex_);
    (void)take_accesses(AccessReader::planner);
  }
  StoreRow next;
  for (Table& other : tables_) {
    other.first_store_row = next;
    if (!other.is_dropped) next = next + TableRow{other.layout.rows};
  }
}

/// The end of the rows of all tables.
StoreRow Store::rows_end() const {
  if (tables_.empty()) return {};
  const Table& last = tables_.back();
  return last.first_store_row + TableRow{last.is_dropped ? 0 : last.layout.rows};
}

}  // namespace tieralloc
