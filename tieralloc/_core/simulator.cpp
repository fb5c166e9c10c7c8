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
                     std::uint64_t rows, std::uint64_t count_from, std::uint64_t prefetch_lag)
    : policy_(std::move(policy)),
      capacity_(capacity),
      warming_(count_from),
      slot_of_(rows, kNoSlot),
      row_in_(capacity),
      unused_prefetch_(capacity),
      prefetch_lag_(prefetch_lag) {}

void Simulator::run(std::span<const RowId> accesses) {
  check_rows(accesses, slot_of_.size());
  const std::size_t warming = std::min<std::uint64_t>(warming_, accesses.size());
  Counts uncounted;
  for (const RowId row : accesses.first(warming)) access(row, uncounted);
  for (const RowId row : accesses.subspan(warming)) access(row, counts_);
  warming_ -= warming;
}

void Simulator::prefetch(std::span<const RowId> rows) {
  check_rows(rows, slot_of_.size());
  Counts uncounted;
  Counts& counts = warming_ > 0 ? uncounted : counts_;
  for (const RowId row : rows) {
    if (slot_of_[row] != kNoSlot || in_flight_.contains(row)) continue;
    ++counts.prefetches_issued;
    in_flight_[row] = now_ + prefetch_lag_;
    flights_.emplace_back(row, now_ + prefetch_lag_);
    land_prefetches(counts);
  }
}

void Simulator::land_due() {
  Counts uncounted;
  land_prefetches(warming_ > 0 ? uncounted : counts_);
}

void Simulator::access(RowId row, Counts& counts) {
  land_prefetches(counts);
  ++now_;
  ++counts.lookups;
  const Slot held = slot_of_[row];
  if (held != kNoSlot) {
    ++counts.hits;
    if (unused_prefetch_[held]) ++counts.prefetches_useful;
    unused_prefetch_[held] = false;
    policy_->touch({&held, 1});
    return;
  }
  ++counts.on_demand_fetches;
  if (in_flight_.erase(row) > 0) ++counts.prefetches_late;
  admit(row, false, counts);
}

void Simulator::land_prefetches(Counts& counts) {
  while (!flights_.empty() && flights_.front().second <= now_) {
    const auto [row, arrival] = flights_.front();
    flights_.pop_front();
    const auto flight = in_flight_.find(row);
    if (flight == in_flight_.end() || flight->second != arrival) continue;  // came late
    in_flight_.erase(flight);
    admit(row, true, counts);
  }
}

bool Simulator::admit(RowId row, bool prefetched, Counts& counts) {
  if (!policy_->admits(row)) return false;
  const Slot slot = free_slot(counts);
  slot_of_[row] = slot;
  row_in_[slot] = row;
  unused_prefetch_[slot] = prefetched;
  if (prefetched) {
    policy_->insert_prefetched(slot, row);
  } else {
    policy_->insert(slot, row);
  }
  return true;
}

Slot Simulator::free_slot(Counts& counts) {
  if (resident_ < capacity_) return resident_++;
  const Slot slot = policy_->evict();
  slot_of_[row_in_[slot]] = kNoSlot;
  if (unused_prefetch_[slot]) ++counts.prefetches_useless;
  unused_prefetch_[slot] = false;
  ++counts.evictions;
  if (tell_eviction_) tell_eviction_(row_in_[slot]);
  return slot;
}

}  // namespace tieralloc
