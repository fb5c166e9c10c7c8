// random.cpp: any resident row, all equally likely.
#include "registry.hpp"

namespace tieralloc {
namespace {

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014).
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  /// Uniform in 0 … bound-1, to one part in 2^32.
  std::uint32_t below(std::uint32_t bound) {
    state_ += 0x9E3779B97F4A7C15u;
    std::uint64_t bits = state_;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
    return static_cast<std::uint32_t>((bits >> 32) * bound >> 32);
  }

 private:
  std::uint64_t state_;
};

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
