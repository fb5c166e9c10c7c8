// simulator.hpp: replays accesses through an eviction policy with no bytes behind it.
//
// Counts what a store with the same policy would, served one access at a time by one thread: a hit
// touches, a miss fetches on demand and, where the policy admits the row, takes a free slot or one
// evicted for it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "eviction/policy.hpp"
#include "types.hpp"

namespace tieralloc {

struct Counts {
  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;
  std::uint64_t on_demand_fetches = 0;
  std::uint64_t evictions = 0;
};

/// Throws std::out_of_range naming the first row that is not below `rows`, and its position.
void check_rows(std::span<const RowId> accesses, std::uint64_t rows);

class Simulator {
 public:
  /// `policy` is empty and made for `capacity` rows; rows are numbered 0 … rows-1. Accesses count
  /// from number `count_from` of the whole stream on, what precedes warms the tier.
  Simulator(std::unique_ptr<EvictionPolicy> policy, std::uint32_t capacity, std::uint64_t rows,
            std::uint64_t count_from = 0);

  /// Replays the next piece of the stream; throws as check_rows does, nothing replayed.
  void run(std::span<const RowId> accesses);

  const Counts& counts() const { return counts_; }

 private:
  void access(RowId row, Counts& counts);
  Slot free_slot(Counts& counts);

  std::unique_ptr<EvictionPolicy> policy_;
  std::uint32_t capacity_;
  std::uint32_t resident_ = 0;
  std::uint64_t warming_;  ///< accesses still to come before counting starts
  std::vector<Slot> slot_of_;
  std::vector<RowId> row_in_;
  Counts counts_;
};

}  // namespace tieralloc
