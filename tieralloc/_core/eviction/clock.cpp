// clock.cpp: CLOCK, second chance (Corbató, "A paging experiment with the Multics system", 1968).
//
// The clock face is a list whose front the hand points at: a marked row loses its mark and goes to
// the back, the first one without leaves.
#include "eviction/marks.hpp"
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Clock final : public EvictionPolicy {
 public:
  explicit Clock(const EvictionConfig& config) : face_(config.slots, 1), marks_(config, 1) {}

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
    face_.push_back(0, slot);
    ++held_;
  }

  Slot evict() override {
    // Hits beside this call can mark rows as fast as it clears them: one round is enough.
    for (std::uint32_t chances = held_; chances > 0; --chances) {
      const Slot candidate = face_.front(0);
      if (!marks_.lower(candidate)) break;
      face_.erase(candidate);
      face_.push_back(0, candidate);
    }
    const Slot victim = face_.front(0);
    if (victim != kNoSlot) remove(victim);
    return victim;
  }

  void remove(Slot slot) override {
    face_.erase(slot);
    --held_;
  }

  void move(Slot from, Slot to) override {
    face_.move(from, to);
    marks_.set(to, marks_.get(from));
  }

 private:
  SlotLists face_;
  Marks marks_;
  std::uint32_t held_ = 0;
};

}  // namespace

const PolicyKind kClock = policy_kind<Clock>("clock");

}  // namespace tieralloc
