// random.cpp: evicts a resident row chosen uniformly at random.
#include "base/split_mix.hpp"
#include "eviction/registry.hpp"

namespace tieralloc {
namespace {

class Random final : public EvictionPolicy {
 public:
  explicit Random(const EvictionConfig& config) : random_(config.seed), position_of_(config.slots) {
    slots_.reserve(config.slots);
  }

  static std::size_t bytes(const EvictionConfig& config) {
    return config.slots * (sizeof(Slot) + sizeof(std::uint32_t));
  }

  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot>) override {}

  void insert(Slot slot, RowId) override {
    position_of_[slot] = static_cast<std::uint32_t>(slots_.size());
    slots_.push_back(slot);
  }

  Slot evict() override {
    if (slots_.empty()) return kNoSlot;
    const Slot victim = slots_[random_.below(static_cast<std::uint32_t>(slots_.size()))];
    remove(victim);
    return victim;
  }

  void remove(Slot slot) override {
    const Slot last = slots_.back();
    slots_.pop_back();
    if (last != slot) place(last, position_of_[slot]);
  }

  void move(Slot from, Slot to) override { place(to, position_of_[from]); }

 private:
  void place(Slot slot, std::uint32_t position) {
    slots_[position] = slot;
    position_of_[slot] = position;
  }

  SplitMix64 random_;
  std::vector<Slot> slots_;                 ///< held slots, in no order
  std::vector<std::uint32_t> position_of_;  ///< by slot: its position in slots_
};

}  // namespace

const PolicyKind kRandom = policy_kind<Random>("random");

}  // namespace tieralloc
