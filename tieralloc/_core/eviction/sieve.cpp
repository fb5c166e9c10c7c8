// sieve.cpp: SIEVE (Zhang et al., "SIEVE is simpler than LRU", NSDI 2024, algorithm 1).
//
//   insert: append the row to the queue with a clear reference bit
//   hit:    set the reference bit
//   evict:  while the bit of the row at the hand is set:
//             clear it and advance the hand towards the newest row, from there to the oldest
//           evict the row at the hand; the hand stays at the next one
// Unlike in CLOCK, a row with a set bit keeps its place in the queue.
#include "eviction/reference_bits.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Sieve final : public ReferenceBitPolicy {
 public:
  explicit Sieve(const EvictionConfig& config)
      : ReferenceBitPolicy(config, 1), queue_(config.slots, 1) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, 1) + ReferenceBits::bytes(config.slots);
  }

  void insert(Slot slot, RowId) override {
    reference_bits_.clear(slot);
    queue_.push_back(0, slot);
    ++num_slots_;
  }

  Slot evict() override {
    Slot candidate = or_oldest(hand_);
    // Concurrent hits can set bits as fast as this loop clears them: one revolution at most.
    for (std::uint32_t chances = num_slots_; chances > 0; --chances) {
      if (!reference_bits_.decrement(candidate)) break;
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
    --num_slots_;
  }

  void move(Slot from, Slot to) override {
    if (from == hand_) hand_ = to;
    queue_.move(from, to);
    reference_bits_.set(to, reference_bits_.get(from));
  }

 private:
  Slot or_oldest(Slot slot) const { return slot != kNoSlot ? slot : queue_.front(0); }

  SlotLists queue_;  ///< oldest row first
  Slot hand_ =
      kNoSlot;  ///< kNoSlot: beyond the newest row, so the next search starts at the oldest
  std::uint32_t num_slots_ = 0;
};

}  // namespace

const PolicyKind kSieve = policy_kind<Sieve>("sieve");

}  // namespace tieralloc
