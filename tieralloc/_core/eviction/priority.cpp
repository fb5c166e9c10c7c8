#include "eviction/priority.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tieralloc {
namespace {

std::uint32_t checked(std::uint32_t eviction_speed) {
  if (eviction_speed <= PriorityPolicy::kMaxEvictionSpeed) return eviction_speed;
  throw std::invalid_argument("eviction_speed: too high; expected at most " +
                              std::to_string(PriorityPolicy::kMaxEvictionSpeed) + ", got " +
                              std::to_string(eviction_speed));
}

}  // namespace

PriorityPolicy::PriorityPolicy(const EvictionConfig& config, std::uint32_t eviction_speed)
    : eviction_speed_(checked(eviction_speed)),
      rows_(config.slots, levels()),
      list_of_(config.slots) {}

void PriorityPolicy::set_priority(Slot slot, std::uint32_t priority) {
  if (!rows_.contains(slot)) return;
  rows_.erase(slot);
  append(slot, std::min(priority, highest()));
}

void PriorityPolicy::insert(Slot slot, RowId) {
  append(slot, eviction_speed_);
  ++num_slots_;
}

void PriorityPolicy::touch(std::span<const Slot> slots) {
  for (const Slot slot : slots) {
    if (rows_.contains(slot)) set_priority(slot, std::max(priority_of(slot), eviction_speed_));
  }
}

Slot PriorityPolicy::evict() {
  if (num_slots_ == 0) return kNoSlot;
  while (rows_.empty(lowest_)) lowest_ = (lowest_ + 1) % levels();
  const Slot victim = rows_.front(lowest_);
  remove(victim);
  return victim;
}

void PriorityPolicy::remove(Slot slot) {
  rows_.erase(slot);
  --num_slots_;
}

void PriorityPolicy::move(Slot from, Slot to) {
  rows_.move(from, to);
  list_of_[to] = list_of_[from];
}

std::uint32_t PriorityPolicy::priority_of(Slot slot) const {
  return (list_of_[slot] + levels() - lowest_) % levels();
}

void PriorityPolicy::append(Slot slot, std::uint32_t priority) {
  const std::uint32_t list = (lowest_ + priority) % levels();
  rows_.push_back(list, slot);
  list_of_[slot] = static_cast<std::uint8_t>(list);
}

}  // namespace tieralloc
