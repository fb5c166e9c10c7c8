// set_aside.hpp: rows fetched ahead that nobody has asked for yet, and how many of them may stay.
//
// They stand apart from the rows that were asked for, first in first out, and leave as soon as they
// are too many. How many is learned from what happens, as ARC (Megiddo and Modha, FAST 2003) learns
// the sizes of its lists: a use of one of the oldest quarter says that fewer would have missed it;
// a miss of a row that left for want of about as many slots says that fewer would have kept it.
// Bounded, no memory taken after construction, every call expected O(1). Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../types.hpp"
#include "key_queue.hpp"

namespace tieralloc {

class SetAside {
 public:
  /// What stands for a resident row here: its slot, or its number.
  using Key = RowId;

  /// Of a tier of so many rows, at least 1.
  explicit SetAside(std::uint32_t capacity)
      : least_(std::max(capacity / 64, 1u)),
        most_(std::max(capacity / 2, 1u)),
        step_(std::max(capacity / 1024, 1u)),
        target_(std::max(capacity / 4, 1u)),
        young_(most_),
        old_(most_),
        gone_(quarter(most_)) {}

  static std::size_t bytes(std::uint32_t capacity) {
    const std::uint32_t most = std::max(capacity / 2, 1u);
    return 2 * KeyQueue<Key>::bytes(most) + KeyQueue<RowId>::bytes(quarter(most));
  }

  std::uint32_t size() const { return young_.size() + old_.size(); }
  /// How many may stay.
  std::uint32_t target() const { return target_; }
  bool contains(Key key) const { return young_.contains(key) || old_.contains(key); }

  /// Whether the oldest should leave before any row that was asked for.
  bool is_over() const { return size() > target_; }

  /// As few as possible may stay, until late uses let more.
  void shrink() { target_ = least_; }

  /// A row was fetched ahead. Where there are as many as there can be, the oldest counts as asked
  /// for from now on and is returned, else kNoRow.
  Key add(Key key) {
    const Key too_many = size() == most_ ? pop_oldest() : kNoRow;
    young_.push(key);
    while (young_.size() > target_ - quarter(target_) && !young_.empty()) old_.push(young_.pop());
    return too_many;
  }

  /// A row is asked for; false where it is none of these.
  bool use(Key key, RowId row) {
    const bool is_old = !young_.contains(key);
    if (!drop(key)) return false;
    // One that had just left would have been there without being fetched, had fewer been.
    if (gone_.contains(row)) {
      note_miss(row);
    } else if (is_old) {
      target_ = std::min(target_ + step_, most_);
    }
    return true;
  }

  /// A row is no longer resident; false where it is none of these.
  bool drop(Key key) { return young_.take(key) || old_.take(key); }

  /// The one to leave first, which is none of these from now on; kNoRow where there is none.
  Key pop_oldest() {
    if (!old_.empty()) return old_.pop();
    return young_.empty() ? kNoRow : young_.pop();
  }

  /// A row that had been asked for left.
  void note_eviction(RowId row) {
    while (gone_.size() >= quarter(target_)) gone_.pop();
    gone_.push(row);
  }

  /// A row was asked for that is not resident.
  void note_miss(RowId row) {
    if (!gone_.take(row)) return;
    target_ = std::max(target_ - std::min(step_, target_), least_);
  }

 private:
  static constexpr std::uint32_t quarter(std::uint32_t rows) { return std::max(rows / 4, 1u); }

  std::uint32_t least_;
  std::uint32_t most_;
  std::uint32_t step_;
  std::uint32_t target_;
  KeyQueue<Key> young_;
  KeyQueue<Key> old_;     ///< about the oldest quarter of as many as may stay
  KeyQueue<RowId> gone_;  ///< as many, the last that left
};

}  // namespace tieralloc
