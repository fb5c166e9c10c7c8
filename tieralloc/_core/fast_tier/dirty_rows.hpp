// dirty_rows.hpp: slots whose values the slow tier lacks, and when to write them back.
//
// A dirty slot belongs to a resident row or to a victim. A victim was evicted, or updated without
// being resident; it stays readable until its value is written back.
//
//   write back   victims at once; resident rows while more than 1/8 of the capacity is dirty, until
//                1/16 is
//
// Concurrency: the owner of the tier serialises all calls except `any`, `count` and
// `take_request`, which may be called from any thread.
// Cost: O(1), except `remove_victim` and `replace_victim` (the number of victims), `collect` and
// `compact`.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

#include "fast_tier/slot_table.hpp"
#include "fast_tier/tier_layout.hpp"

namespace tieralloc {

struct DirtyRow {
  Slot slot;
  TierRow row;
};

class DirtyRows {
 public:
  DirtyRows(const TierPlan& plan, SlotTable& slots)
      : high_(std::max<Slot>(1, plan.capacity / 8)),
        low_(plan.capacity / 16),
        max_victims_(plan.slots - plan.capacity),
        slots_(slots) {
    victims_.reserve(max_victims_);
  }

  /// All dirty slots, victims included.
  Slot count() const { return count_.load(std::memory_order_relaxed); }
  /// False only if the slow tier has every value.
  bool any() const { return count_.load(std::memory_order_acquire) != 0; }
  Slot num_victims() const { return static_cast<Slot>(victims_.size()); }
  bool has_room_for_victim() const { return victims_.size() < max_victims_; }

  /// Counts a slot that was made dirty, or that is dirty no more.
  void count_dirty() {
    if (++count_ > high_) request();
  }
  void count_clean() { --count_; }

  void add_victim(Slot slot) {
    slots_.add(slot, kEvicted);
    victims_.push_back(slot);
    request();
  }
  void remove_victim(Slot slot) {
    slots_.remove(slot, kEvicted);
    std::erase(victims_, slot);
  }
  /// `fresh` takes the turn of `old`.
  void replace_victim(Slot old, Slot fresh) {
    slots_.add(fresh, kEvicted);
    std::replace(victims_.begin(), victims_.end(), old, fresh);
    request();
  }

  /// Calls `visit` with up to `max_rows` dirty slots, victims first; with others only if
  /// `residents`.
  template <typename Visit>
  std::vector<DirtyRow> collect(std::size_t max_rows, bool residents, Visit visit) {
    std::vector<DirtyRow> rows;
    const auto add = [&](Slot slot) {
      visit(slot, rows.size());
      slots_.add(slot, kWriting);
      rows.push_back({slot, slots_.row(slot)});
    };
    for (auto it = victims_.begin(); it != victims_.end() && rows.size() < max_rows; ++it) add(*it);
    for (Slot seen = 0; residents && seen < slots_.size() && rows.size() < max_rows; ++seen) {
      const Slot slot = hand_;
      hand_ = hand_ + 1 == slots_.size() ? 0 : hand_ + 1;
      if (slots_.has_any(slot, kDirty) && !slots_.has_any(slot, kEvicted)) add(slot);
    }
    return rows;
  }

  /// Ends a write-back that failed. The victim goes to the end of the queue, so that it does not
  /// block the others.
  void retry(Slot slot) {
    slots_.remove(slot, kWriting);
    if (!slots_.has_any(slot, kEvicted)) return;
    std::erase(victims_, slot);
    victims_.push_back(slot);
  }
  /// Ends a write-back that succeeded.
  void clean(Slot slot) {
    slots_.remove(slot, kWriting | kDirty);
    count_clean();
  }
  /// Removes victims that were retired since.
  void compact() {
    std::erase_if(victims_, [&](Slot slot) { return !slots_.has_any(slot, kEvicted); });
  }

  /// Whether to write back now, asked before each batch.
  bool needs_write_back() {
    is_cleaning_ = !victims_.empty() || count() > (is_cleaning_ ? low_ : high_);
    return is_cleaning_;
  }

  /// True once per request for write-back in the background.
  bool take_request() {
    return requested_.load(std::memory_order_relaxed) && requested_.exchange(false);
  }

 private:
  void request() { requested_.store(true, std::memory_order_relaxed); }

  const Slot high_;
  const Slot low_;
  const Slot max_victims_;
  SlotTable& slots_;
  std::vector<Slot> victims_;
  Slot hand_ = 0;  ///< next slot that `collect` examines
  std::atomic<Slot> count_{0};
  bool is_cleaning_ = false;
  std::atomic<bool> requested_{false};
};

}  // namespace tieralloc
