// lru.cpp: least recently used. The list is in the order of the last hits, the most recent last.
#include "eviction/registry.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {
namespace {

class Lru final : public EvictionPolicy {
 public:
  explicit Lru(const EvictionConfig& config) : rows_(config.slots, 1) {}

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, 1);
  }

  void insert(Slot slot, RowId) override { rows_.push_back(0, slot); }

  void touch(std::span<const Slot> slots) override {
    for (const Slot slot : slots) {
      if (!rows_.contains(slot)) continue;
      rows_.erase(slot);
      rows_.push_back(0, slot);
    }
  }

  Slot evict() override {
    const Slot victim = rows_.front(0);
    if (victim != kNoSlot) rows_.erase(victim);
    return victim;
  }

  void remove(Slot slot) override { rows_.erase(slot); }
  void move(Slot from, Slot to) override { rows_.move(from, to); }

 private:
  SlotLists rows_;
};

}  // namespace

const PolicyKind kLru = policy_kind<Lru>("lru");

}  // namespace tieralloc
