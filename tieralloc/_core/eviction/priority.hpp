// priority.hpp: rows leave by priorities that somebody else sets (RecMG, HPCA 2025: the buffer).
//
// Priorities are 0 … eviction_speed + 1, and the lowest goes first, of equal ones what got its
// priority first. Whenever no row of priority 0 is left, all priorities fall by one: a row that
// nobody raises leaves after as many such rounds as its priority says. A new row, and one that is
// hit, has `eviction_speed` until more is known of it. No call looks at more than a row and the
// priorities there are.
#pragma once

#include <cstdint>
#include <vector>

#include "eviction/policy.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {

class PriorityPolicy final : public EvictionPolicy {
 public:
  static constexpr std::uint32_t kMostEvictionSpeed = 254;

  /// Throws std::invalid_argument for an eviction speed that is higher.
  PriorityPolicy(const EvictionConfig& config, std::uint32_t eviction_speed);

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, kMostEvictionSpeed + 2) +
           config.slots * sizeof(std::uint8_t);
  }

  std::uint32_t highest() const { return eviction_speed_ + 1; }

  /// Of a slot that is held, and up to the highest there is; others are passed over, or cut short.
  void set_priority(Slot slot, std::uint32_t priority);

  void insert(Slot slot, RowId row) override;
  void touch(std::span<const Slot> slots) override;
  Slot evict() override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

 private:
  std::uint32_t levels() const { return eviction_speed_ + 2; }
  std::uint32_t priority_of(Slot slot) const;
  void append(Slot slot, std::uint32_t priority);

  std::uint32_t eviction_speed_;
  std::uint32_t lowest_ = 0;  ///< the list of priority 0; each further one is the next, in a circle
  std::uint32_t held_ = 0;
  SlotLists rows_;
  std::vector<std::uint8_t> list_of_;  ///< by slot
};

}  // namespace tieralloc
