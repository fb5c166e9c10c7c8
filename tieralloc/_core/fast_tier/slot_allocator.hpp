// slot_allocator.hpp: free slots, and retired slots until their last reader is gone.
//
// A taken slot is returned in one of two ways. `free` is for a slot that no reader has seen.
// `retire` is for a slot that was removed from the index: it becomes available once all read
// sections of that time have ended (epoch/epoch_manager.hpp).
//
//   free slots     a stack, in ascending order at first: neighbours in time are neighbours in
//   memory retired slots  a queue, the oldest first
//
// Concurrency: the owner of the tier serialises all calls.
// Cost: O(1); `take` scans the readers if the oldest retired slot may still be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/memory.hpp"
#include "base/types.hpp"
#include "epoch/epoch_manager.hpp"

namespace tieralloc {

class SlotAllocator {
 public:
  static constexpr std::size_t kBytesPerSlot = sizeof(Slot);

  /// All slots are free. `words` has one word per slot, which the allocator uses while the slot is
  /// retired.
  SlotAllocator(Slot slots, std::uint64_t* words, EpochManager& epochs)
      : words_(words), epochs_(epochs), next_(slots * kBytesPerSlot, "fast tier's metadata") {
    for (Slot slot = slots; slot-- > 0;) free(slot);
  }

  /// kNoSlot if no slot is free and every retired one may still be read.
  Slot take() {
    if (free_ != kNoSlot) return std::exchange(free_, next(free_));
    if (retired_ == kNoSlot) return kNoSlot;
    const std::uint64_t epoch = words_[retired_];
    if (epoch >= oldest_epoch_) oldest_epoch_ = epochs_.oldest_epoch();
    if (epoch >= oldest_epoch_) return kNoSlot;
    return std::exchange(retired_, next(retired_));
  }

  void free(Slot slot) { next(slot) = std::exchange(free_, slot); }

  void retire(Slot slot) {
    words_[slot] = epochs_.retire_epoch();
    next(slot) = kNoSlot;
    (retired_ == kNoSlot ? retired_ : next(last_retired_)) = slot;
    last_retired_ = slot;
  }

 private:
  Slot& next(Slot slot) { return next_.as<Slot>()[slot]; }

  std::uint64_t* const words_;
  EpochManager& epochs_;
  Region next_;  ///< a slot's successor among the free or the retired slots
  Slot free_ = kNoSlot;
  Slot retired_ = kNoSlot;
  Slot last_retired_ = kNoSlot;
  std::uint64_t oldest_epoch_ = 0;  ///< as last read
};

}  // namespace tieralloc
