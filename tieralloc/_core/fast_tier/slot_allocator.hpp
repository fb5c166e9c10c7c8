// slot_allocator.hpp: free slots, and retired slots until their last reader is gone.
//
// A taken slot is returned in one of two ways. `free` is for a slot that no reader has seen.
// `retire` is for a slot that was removed from the index: it becomes available once all read
// sections of that time have ended (epoch/epoch_manager.hpp).
//
//   free slots     a stack, in ascending order at first: neighbours in time are neighbours in
//                  memory
//   retired slots  two lists, the older slots first: `waiting`, whose readers are being waited
//                  for, and `retired`, which becomes `waiting` once that is free. A list has one
//                  epoch, that of its last slot, so that slots need none.
//
// Concurrency: the owner of the tier serialises all calls.
// Cost: O(1); `take` without a free slot scans the readers.
#pragma once

#include <cstdint>
#include <utility>

#include "base/types.hpp"
#include "epoch/epoch_manager.hpp"
#include "fast_tier/slot_table.hpp"

namespace tieralloc {

class SlotAllocator {
 public:
  /// All slots are free. The words of slots that are not taken belong to the allocator.
  SlotAllocator(SlotTable& slots, EpochManager& epochs) : slots_(slots), epochs_(epochs) {
    for (Slot slot = slots.size(); slot-- > 0;) free(slot);
  }

  /// kNoSlot if no slot is free and every retired one may still be read.
  Slot take() {
    if (free_ == kNoSlot) reclaim();
    if (free_ == kNoSlot) return kNoSlot;
    return std::exchange(free_, slots_.next(free_));
  }

  void free(Slot slot) { slots_.set_next(slot, std::exchange(free_, slot)); }

  void retire(Slot slot) {
    slots_.set_next(slot, kNoSlot);
    if (retired_.first == kNoSlot) {
      retired_.first = slot;
    } else {
      slots_.set_next(retired_.last, slot);
    }
    retired_.last = slot;
    retired_.epoch = epochs_.retire_epoch();
  }

 private:
  struct List {
    Slot first = kNoSlot;
    Slot last = kNoSlot;
    std::uint64_t epoch = 0;
  };

  void reclaim() {
    const std::uint64_t oldest_epoch = epochs_.oldest_epoch();
    for (int list = 0; list < 2 && free_ == kNoSlot; ++list) {
      if (waiting_.first == kNoSlot) waiting_ = std::exchange(retired_, {});
      if (waiting_.first == kNoSlot || waiting_.epoch >= oldest_epoch) return;
      free_ = std::exchange(waiting_, {}).first;
    }
  }

  SlotTable& slots_;
  EpochManager& epochs_;
  Slot free_ = kNoSlot;
  List waiting_;
  List retired_;
};

}  // namespace tieralloc
