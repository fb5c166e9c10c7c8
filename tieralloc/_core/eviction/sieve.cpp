// sieve.cpp: SIEVE (Zhang et al., "SIEVE is simpler than LRU", NSDI 2024, algorithm 1).
//
// A queue from the oldest to the newest row, and a hand that walks it in that direction and starts
// over at the end: a visited row loses its mark and stays where it is, the first one without
// leaves.
#include "eviction/marks.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Sieve final : public EvictionPolicy {
 public:
  explicit Sieve(const EvictionConfig& config) : queue_(config.slots, 1), marks_(config, 1) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, 1) + Marks::bytes(config.slots);
  }

  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot> slots) override { marks_.raise(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const override {
    return marks_.find_saturated(slots, places);
  }

  void insert(Slot slot, RowId) override {
    marks_.clear(slot);
    queue_.push_back(0, slot);
    ++held_;
  }

  Slot evict() override {
    Slot candidate = or_oldest(hand_);
    // Hits beside this call can mark rows as fast as it clears them: one round is enough.
    for (std::uint32_t chances = held_; chances > 0 && marks_.lower(candidate); --chances) {
      candidate = or_oldest(queue_.next(candidate));
    }
    if (candidate == kNoSlot) return kNoSlot;
    hand_ = candidate;
    remove(candidate);
    return candidate;
  }

  void remove(Slot slot) override {
    if (slot == hand_) hand_ = queue_.next(slot);
    queue_.erase(slot);
    --held_;
  }

  void move(Slot from, Slot to) override {
    if (from == hand_) hand_ = to;
    queue_.move(from, to);
    marks_.set(to, marks_.get(from));
  }

 private:
  Slot or_oldest(Slot slot) const { return slot != kNoSlot ? slot : queue_.front(0); }

  SlotLists queue_;
  Marks marks_;
  Slot hand_ = kNoSlot;  ///< kNoSlot: past the newest, the next walk starts at the oldest
  std::uint32_t held_ = 0;
};

}  // namespace

const PolicyKind kSieve = policy_kind<Sieve>("sieve");

}  // namespace tieralloc
