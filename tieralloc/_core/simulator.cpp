#include "simulator.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tieralloc {

void check_rows(std::span<const RowId> accesses, std::uint64_t rows) {
  const auto wrong =
      std::find_if(accesses.begin(), accesses.end(), [rows](RowId row) { return row >= rows; });
  if (wrong == accesses.end()) return;
  throw std::out_of_range("access " + std::to_string(wrong - accesses.begin()) + " is of row " +
                          std::to_string(*wrong) + ", expected below " + std::to_string(rows));
}

Simulator::Simulator(std::unique_ptr<EvictionPolicy> policy, std::uint32_t capacity,
                     std::uint64_t rows, std::uint64_t count_from)
    : policy_(std::move(policy)),
      capacity_(capacity),
      warming_(count_from),
      slot_of_(rows, kNoSlot),
      row_in_(capacity) {}

void Simulator::run(std::span<const RowId> accesses) {
  check_rows(accesses, slot_of_.size());
  const std::size_t warming = std::min<std::uint64_t>(warming_, accesses.size());
  Counts uncounted;
  for (const RowId row : accesses.first(warming)) access(row, uncounted);
  for (const RowId row : accesses.subspan(warming)) access(row, counts_);
  warming_ -= warming;
}

void Simulator::access(RowId row, Counts& counts) {
  ++counts.lookups;
  const Slot held = slot_of_[row];
  if (held != kNoSlot) {
    ++counts.hits;
    policy_->touch({&held, 1});
    return;
  }
  ++counts.on_demand_fetches;
  if (!policy_->admits(row)) return;
  const Slot slot = free_slot(counts);
  slot_of_[row] = slot;
  row_in_[slot] = row;
  policy_->insert(slot, row);
}

Slot Simulator::free_slot(Counts& counts) {
  if (resident_ < capacity_) return resident_++;
  const Slot slot = policy_->evict();
  slot_of_[row_in_[slot]] = kNoSlot;
  ++counts.evictions;
  return slot;
}

}  // namespace tieralloc
