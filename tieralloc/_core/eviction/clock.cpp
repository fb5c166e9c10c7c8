// clock.cpp: CLOCK, second chance (Corbató, "A paging experiment with the Multics system", 1968).
//
//   insert: append the row with a clear reference bit
//   hit:    set the reference bit
//   evict:  while the bit of the row at the hand is set: clear it and advance the hand
//           evict the row at the hand
// The ring is a list with the hand at its front; to advance the hand, the front row moves to the
// back.
#include "eviction/reference_bits.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Clock final : public ReferenceBitPolicy {
 public:
  explicit Clock(const EvictionConfig& config)
      : ReferenceBitPolicy(config, 1), ring_(config.slots, 1) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, 1) + ReferenceBits::bytes(config.slots);
  }

  void insert(Slot slot, RowId) override {
    reference_bits_.clear(slot);
    ring_.push_back(0, slot);
    ++num_slots_;
  }

  Slot evict() override {
    // Concurrent hits can set bits as fast as this loop clears them: one revolution at most.
    for (std::uint32_t chances = num_slots_; chances > 0; --chances) {
      const Slot candidate = ring_.front(0);
      if (!reference_bits_.decrement(candidate)) break;
      ring_.erase(candidate);
      ring_.push_back(0, candidate);
    }
    const Slot victim = ring_.front(0);
    if (victim != kNoSlot) remove(victim);
    return victim;
  }

  void remove(Slot slot) override {
    ring_.erase(slot);
    --num_slots_;
  }

  void move(Slot from, Slot to) override {
    ring_.move(from, to);
    reference_bits_.set(to, reference_bits_.get(from));
  }

 private:
  SlotLists ring_;
  std::uint32_t num_slots_ = 0;
};

}  // namespace

const PolicyKind kClock = policy_kind<Clock>("clock");

}  // namespace tieralloc
