// priority.hpp: evicts rows by priorities that its caller sets (the buffer of RecMG, HPCA 2025).
//
//   insert: priority = eviction_speed
//   hit:    priority = max(priority, eviction_speed)
//   set:    priority = min(priority, eviction_speed + 1)
//   evict:  while no row has priority 0: decrement all priorities
//           evict the row of priority 0 that got its priority first
// The lists of rows by priority form a ring; a decrement of all priorities advances its start. A
// call takes O(1), an eviction at most O(eviction_speed).
#pragma once

#include <cstdint>
#include <vector>

#include "eviction/policy.hpp"
#include "eviction/slot_lists.hpp"

namespace tieralloc {

class PriorityPolicy final : public EvictionPolicy {
 public:
  static constexpr std::uint32_t kMaxEvictionSpeed = 254;

  /// Throws std::invalid_argument for an eviction speed above kMaxEvictionSpeed.
  PriorityPolicy(const EvictionConfig& config, std::uint32_t eviction_speed);

  static std::size_t bytes(const EvictionConfig& config) {
    return SlotLists::bytes(config.slots, kMaxEvictionSpeed + 2) +
           config.slots * sizeof(std::uint8_t);
  }

  std::uint32_t highest() const { return eviction_speed_ + 1; }

  /// Sets the priority of a held slot, clamped to `highest()`; ignores other slots.
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
  std::uint32_t lowest_ = 0;  ///< list of priority 0; that of priority p is p lists further, modulo
  std::uint32_t num_slots_ = 0;
  SlotLists rows_;
  std::vector<std::uint8_t> list_of_;  ///< by slot
};

}  // namespace tieralloc
