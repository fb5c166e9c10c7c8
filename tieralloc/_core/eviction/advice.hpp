// advice.hpp: rows that somebody who knows more than the policy would have leave first.
//
// Who advises works beside serving and ahead of need; whoever needs a victim takes the advice that
// is there, and asks the policy where there is none. Advice grows old: a row that is accessed, or
// comes in anew, is withdrawn. Bounded, no memory taken after construction, every call expected
// O(1) a row. The owner serialises all calls.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../types.hpp"
#include "key_queue.hpp"

namespace tieralloc {

/// Rows that advice for a tier of some capacity holds: more would be old before their turn.
constexpr std::uint32_t most_advised(std::uint32_t capacity) {
  return std::clamp<std::uint32_t>(capacity / 8, 1, 8192);
}

class Advice {
 public:
  /// Holds `most` rows.
  explicit Advice(std::uint32_t most) : rows_(most) {}

  static std::size_t bytes(std::uint32_t most) { return KeyQueue<RowId>::bytes(most); }

  /// Takes rows that should leave, first the first; those advised already keep their turn. Returns
  /// how many were taken: the rest found no room.
  std::size_t push(std::span<const RowId> rows) {
    std::size_t taken = 0;
    for (const RowId row : rows) {
      if (rows_.contains(row)) continue;
      if (rows_.full()) break;
      rows_.push(row);
      ++taken;
    }
    return taken;
  }

  /// Returns how many of the rows were advised.
  std::size_t withdraw(std::span<const RowId> rows) {
    std::size_t withdrawn = 0;
    for (const RowId row : rows) {
      if (rows_.empty()) break;
      withdrawn += rows_.take(row);
    }
    return withdrawn;
  }

  /// The next row to leave; kNoRow where there is none.
  RowId pop() { return rows_.empty() ? kNoRow : rows_.pop(); }

  void clear() {
    while (!rows_.empty()) rows_.pop();
  }

  bool contains(RowId row) const { return rows_.contains(row); }
  std::size_t size() const { return rows_.size(); }

 private:
  KeyQueue<RowId> rows_;
};

}  // namespace tieralloc
