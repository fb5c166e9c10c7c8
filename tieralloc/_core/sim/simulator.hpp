// simulator.hpp: a fast tier without bytes, through which accesses are replayed.
//
// Counts what a store with the same policy would, served by one thread: a hit touches; a miss
// fetches on demand and, where the policy admits the row, takes a free slot or one evicted for it.
// It is served one access at a time, or by calls of some samples each: their rows are looked up
// table by table, and those that are missing are fetched together, each once. After each access, or
// call, the policy's planner makes a step: what is simulated is the policy object that serves. A
// prefetched row takes a slot when it arrives.
//
// Concurrency: not for concurrent use. An access costs what the index and the policy cost.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/statistics.hpp"
#include "base/types.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "index/row_index.hpp"

// X(type, name): the counts of a store (tieralloc/stats.py) that do not depend on bytes.
#define TIERALLOC_SIMULATED_COUNTS(X) \
  X(std::uint64_t, lookups)           \
  X(std::uint64_t, hits)              \
  X(std::uint64_t, on_demand_fetches) \
  X(std::uint64_t, evictions)         \
  X(std::uint64_t, prefetches_issued) \
  X(std::uint64_t, prefetches_useful) \
  X(std::uint64_t, prefetches_late)   \
  X(std::uint64_t, prefetches_useless)

namespace tieralloc {

struct Counts {
  TIERALLOC_SIMULATED_COUNTS(TIERALLOC_FIELD)
};

inline Statistics statistics_of(const Counts& source) {
  Statistics statistics;
  TIERALLOC_SIMULATED_COUNTS(TIERALLOC_ADD_FIELD)
  return statistics;
}

/// Throws std::out_of_range naming the first row that is not below `rows`, and its position.
void check_rows(std::span<const RowId> accesses, std::uint64_t rows);

/// How a simulated store is served.
struct Calls {
  std::size_t samples = 0;            ///< of a call; 0: one access at a time
  std::vector<RowId> table_starts{};  ///< table t has the rows from [t] to [t + 1]
};

/// Throws std::invalid_argument where lengths of samples do not add up to the rows.
void check_lengths(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

class Simulator final : private TierView {
 public:
  /// `policy` is empty and made for `config`; rows are numbered 0 … rows-1. Accesses count from
  /// number `count_from` of the whole stream on, what precedes warms the tier. A prefetched row is
  /// in flight for `prefetch_lag` accesses. Slots are used in turn, as a store with as many slots
  /// uses them.
  Simulator(std::unique_ptr<EvictionPolicy> policy, const EvictionConfig& config,
            std::uint64_t rows, std::uint64_t count_from = 0, std::uint64_t prefetch_lag = 0,
            Calls calls = {});

  /// Replays the next samples of the stream; the last call may have fewer than others. Throws as
  /// check_lengths and check_rows do, nothing replayed.
  void run(std::span<const RowId> accesses, std::span<const std::uint32_t> sample_lengths);

  /// The same one access at a time, all being of one sample that goes on. Throws
  /// std::invalid_argument if the store is simulated by calls.
  void run(std::span<const RowId> accesses);

  /// One access to a row below `rows`; true for a hit.
  bool access(RowId row);

  /// Prefetches those of the rows that are neither resident nor in flight, as one batch; throws as
  /// check_rows does, nothing issued.
  void prefetch(std::span<const RowId> rows);

  bool is_resident(RowId row) const override { return index_->find(row) != kAbsent; }

  const Counts& counts() const { return counts_; }

  /// DRAM of one beside its policy, without prefetches in flight.
  static std::size_t bytes(const EvictionConfig& config, std::uint64_t rows);

 private:
  Slot find_slot(RowId row) const override;
  RowId row_in(Slot slot) const override { return row_in_[slot]; }

  Counts& counted() { return now_ >= count_from_ ? counts_ : uncounted_; }
  void serve(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);
  bool look_up(RowId row);
  template <typename Observe>
  void step(Observe observe);
  void land_prefetches();
  void admit(RowId row, bool prefetched);
  void evict();

  std::unique_ptr<EvictionPolicy> policy_;
  Planner* planner_;  ///< the policy's; null: none
  std::unique_ptr<RowIndex> index_;
  std::uint64_t rows_;
  std::uint32_t capacity_;
  std::uint32_t resident_ = 0;
  std::vector<RowId> row_in_;
  std::deque<Slot> free_;  ///< the first one is the next to be taken
  std::uint64_t count_from_;
  std::uint64_t prefetch_lag_;
  std::uint64_t now_ = 0;                                ///< accesses so far
  std::deque<std::pair<RowId, std::uint64_t>> flights_;  ///< rows and when they arrive, in order
  std::unordered_map<RowId, std::uint64_t> in_flight_;   ///< of these, those not asked for since
  std::vector<RowId> wanted_;                            ///< to prefetch
  std::vector<RowId> issued_;
  Calls calls_;
  std::vector<RowId> call_rows_;  ///< table by table
  std::vector<RowId> missed_;     ///< by the call
  std::unordered_set<RowId> is_missed_;
  Counts counts_;
  Counts uncounted_;
};

}  // namespace tieralloc
