// simulator.hpp: replays accesses through an eviction policy with no bytes behind it.
//
// Counts what a store with the same policy would, served one access at a time by one thread: a hit
// touches, a miss fetches on demand and, where the policy admits the row, takes a free slot or one
// evicted for it. A prefetched row does as well when it arrives.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "eviction/policy.hpp"
#include "types.hpp"

namespace tieralloc {

struct Counts {
  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;
  std::uint64_t on_demand_fetches = 0;
  std::uint64_t evictions = 0;
  std::uint64_t prefetches_issued = 0;
  std::uint64_t prefetches_useful = 0;   ///< used before they were evicted
  std::uint64_t prefetches_late = 0;     ///< asked for while in flight: an on-demand fetch as well
  std::uint64_t prefetches_useless = 0;  ///< evicted unused
};

/// Throws std::out_of_range naming the first row that is not below `rows`, and its position.
void check_rows(std::span<const RowId> accesses, std::uint64_t rows);

class Simulator {
 public:
  /// `policy` is empty and made for `capacity` rows; rows are numbered 0 … rows-1. Accesses count
  /// from number `count_from` of the whole stream on, what precedes warms the tier. A prefetched
  /// row is in flight for `prefetch_lag` accesses.
  Simulator(std::unique_ptr<EvictionPolicy> policy, std::uint32_t capacity, std::uint64_t rows,
            std::uint64_t count_from = 0, std::uint64_t prefetch_lag = 0);

  /// Replays the next piece of the stream; throws as check_rows does, nothing replayed.
  void run(std::span<const RowId> accesses);

  /// Fetches ahead those of the rows that are neither resident nor in flight; throws as check_rows
  /// does, nothing issued.
  void prefetch(std::span<const RowId> rows);

  /// Lets those prefetches arrive that are due before the next access, as that would.
  void land_due();

  /// kNoSlot where the row is not resident.
  Slot slot_of(RowId row) const { return slot_of_[row]; }

  bool is_resident(RowId row) const { return slot_of_[row] != kNoSlot; }
  bool in_flight(RowId row) const { return in_flight_.contains(row); }
  /// Whether a row is resident that was fetched ahead and not used since.
  bool awaits_use(RowId row) const { return is_resident(row) && unused_prefetch_[slot_of_[row]]; }

  /// Has each row told that leaves from now on, as it leaves.
  void on_eviction(std::function<void(RowId)> tell) { tell_eviction_ = std::move(tell); }

  const Counts& counts() const { return counts_; }

 private:
  void access(RowId row, Counts& counts);
  void land_prefetches(Counts& counts);
  /// False where the policy does not admit the row.
  bool admit(RowId row, bool prefetched, Counts& counts);
  Slot free_slot(Counts& counts);

  std::unique_ptr<EvictionPolicy> policy_;
  std::uint32_t capacity_;
  std::uint32_t resident_ = 0;
  std::uint64_t warming_;  ///< accesses still to come before counting starts
  std::vector<Slot> slot_of_;
  std::vector<RowId> row_in_;
  std::vector<bool> unused_prefetch_;  ///< by slot
  std::uint64_t prefetch_lag_;
  std::uint64_t now_ = 0;                                ///< accesses so far
  std::deque<std::pair<RowId, std::uint64_t>> flights_;  ///< rows and when they arrive, in order
  std::unordered_map<RowId, std::uint64_t> in_flight_;   ///< of these, those not asked for since
  std::function<void(RowId)> tell_eviction_;
  Counts counts_;
};

}  // namespace tieralloc
