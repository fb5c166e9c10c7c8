// ranking.hpp: keeps slots in buckets by their present value.
//
// A slot is in a bucket, unevaluated, in the probationary segment, in evaluation, or not held. All
// memory is allocated at construction; every call is O(1). Not for concurrent use.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "base/types.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {

class Ranking {
 public:
  /// The place of a slot: a bucket below kBuckets, or one of the constants below.
  using Place = std::uint8_t;
  static constexpr std::uint32_t kBuckets = 128;
  static constexpr Place kUnevaluated = kBuckets;
  static constexpr Place kNewPrefetch = kBuckets + 1;  ///< new part of the probationary segment
  static constexpr Place kOldPrefetch = kBuckets + 2;  ///< old part of the probationary segment
  static constexpr Place kInEvaluation = kBuckets + 3;
  static constexpr Place kNotHeld = kBuckets + 4;

  explicit Ranking(std::uint32_t slots) : lists_(slots, kLists), place_of_(slots, kNotHeld) {}

  static std::size_t bytes(std::uint32_t slots) {
    return SlotLists::bytes(slots, kLists) + slots * sizeof(Place);
  }

  Place place_of(Slot slot) const { return place_of_[slot]; }
  bool holds(Slot slot) const { return place_of_[slot] != kNotHeld; }
  bool is_ranked(Slot slot) const { return place_of_[slot] < kBuckets; }
  bool is_prefetched(Slot slot) const {
    return place_of_[slot] == kNewPrefetch || place_of_[slot] == kOldPrefetch;
  }

  void move(Slot slot, Place to) {
    const Place from = place_of_[slot];
    if (from == to) return;
    if (from < kLists) erase(slot, from);
    place_of_[slot] = to;
    if (to >= kLists) return;
    lists_.push_back(to, slot);
    ++sizes_[to];
    if (to < kBuckets) used_[to / 64] |= std::uint64_t{1} << to % 64;
  }

  /// The slot that has been longest in the lowest bucket; kNoSlot if all buckets are empty.
  Slot lowest() const {
    for (std::uint32_t i = 0; i < used_.size(); ++i) {
      if (used_[i] == 0) continue;
      return lists_.front(64 * i + static_cast<std::uint32_t>(std::countr_zero(used_[i])));
    }
    return kNoSlot;
  }

  /// The slot that has been longest at a listed place; kNoSlot if there is none.
  Slot first(Place place) const { return lists_.front(place); }
  std::uint32_t size(Place place) const { return sizes_[place]; }

  /// The share of a bucket's slots that is among the `count` slots of the lowest value.
  float share_among_lowest(Place bucket, std::uint32_t count) const {
    for (Place lower = 0; lower < bucket; ++lower) {
      if (sizes_[lower] >= count) return 0;
      count -= sizes_[lower];
    }
    return sizes_[bucket] <= count ? 1.0f
                                   : static_cast<float>(count) / static_cast<float>(sizes_[bucket]);
  }

 private:
  static constexpr std::uint32_t kLists = kBuckets + 3;

  void erase(Slot slot, Place from) {
    lists_.erase(slot);
    if (--sizes_[from] == 0 && from < kBuckets) {
      used_[from / 64] &= ~(std::uint64_t{1} << from % 64);
    }
  }

  SlotLists lists_;
  std::vector<Place> place_of_;
  std::array<std::uint32_t, kLists> sizes_{};
  std::array<std::uint64_t, kBuckets / 64> used_{};  ///< bit b: bucket b is not empty
};

}  // namespace tieralloc
