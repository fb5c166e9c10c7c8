// naive_priority.hpp: a naive implementation of PriorityPolicy: a list of rows in the order in
// which they got their priorities, with linear search and decrements.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>

#include "base/types.hpp"

class NaivePriority {
 public:
  explicit NaivePriority(std::uint32_t eviction_speed) : speed_(eviction_speed) {}

  bool contains(tieralloc::RowId row) const { return find(row) != rows_.end(); }

  void set(tieralloc::RowId row, std::uint32_t priority) {
    if (!contains(row)) return;
    remove(row);
    rows_.push_back({row, std::min(priority, speed_ + 1)});
  }
  void insert(tieralloc::RowId row) { rows_.push_back({row, speed_}); }
  void touch(tieralloc::RowId row) {
    const auto held = find(row);
    if (held != rows_.end()) set(row, std::max(held->priority, speed_));
  }
  void remove(tieralloc::RowId row) {
    rows_.remove_if([row](const Row& held) { return held.row == row; });
  }
  tieralloc::RowId evict() {
    if (rows_.empty()) return tieralloc::kNoRow;
    const auto first_of_0 = [this] {
      return std::find_if(rows_.begin(), rows_.end(),
                          [](const Row& held) { return held.priority == 0; });
    };
    while (first_of_0() == rows_.end()) {
      for (Row& held : rows_) --held.priority;
    }
    const tieralloc::RowId row = first_of_0()->row;
    rows_.erase(first_of_0());
    return row;
  }

 private:
  struct Row {
    tieralloc::RowId row;
    std::uint32_t priority;
  };

  std::list<Row>::const_iterator find(tieralloc::RowId row) const {
    return std::find_if(rows_.begin(), rows_.end(),
                        [row](const Row& held) { return held.row == row; });
  }

  std::uint32_t speed_;
  std::list<Row> rows_;
};
