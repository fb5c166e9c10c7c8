// random.cpp: any resident row, all equally likely.
#include "base/split_mix.hpp"
#include "eviction/registry.hpp"

namespace tieralloc {
namespace {

class Random final : public EvictionPolicy {
 public:
  explicit Random(const EvictionConfig& config) : random_(config.seed), position_(config.slots) {
    held_.reserve(config.slots);
  }

  static std::size_t bytes(const EvictionConfig& config) {
    return config.slots * (sizeof(Slot) + sizeof(std::uint32_t));
  }

  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot>) override {}

  void insert(Slot slot, RowId) override {
    position_[slot] = static_cast<std::uint32_t>(held_.size());
    held_.push_back(slot);
  }

  Slot evict() override {
    if (held_.empty()) return kNoSlot;
    const Slot victim = held_[random_.below(static_cast<std::uint32_t>(held_.size()))];
    remove(victim);
    return victim;
  }

  void remove(Slot slot) override {
    const Slot last = held_.back();
    held_.pop_back();
    if (last != slot) place(last, position_[slot]);
  }

  void move(Slot from, Slot to) override { place(to, position_[from]); }

 private:
  void place(Slot slot, std::uint32_t position) {
    held_[position] = slot;
    position_[slot] = position;
  }

  SplitMix64 random_;
  std::vector<Slot> held_;               ///< in no order
  std::vector<std::uint32_t> position_;  ///< by slot, in held_
};

}  // namespace

const PolicyKind kRandom = policy_kind<Random>("random");

}  // namespace tieralloc
