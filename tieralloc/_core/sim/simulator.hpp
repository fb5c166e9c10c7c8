// simulator.hpp: replays accesses through a fast tier without bytes.
//
// The counts are those of a store with the same policy and one caller:
//   hit:  notify the policy
//   miss: fetch on demand; if the policy admits the row, insert it, evicting a row if no slot is
//   free
// Accesses are replayed one by one, or by calls of several samples. A call looks up its rows table
// by table, then fetches each missed row once. After each access or call the planner of the policy
// runs a step. A prefetched row takes a slot when it arrives. The simulated policy is the object
// that a store runs.
//
// The rows that a call fetches on demand are read as one request, those that a step prefetches as
// another one (device_reads.hpp). A store splits requests of over 4,096 rows; the simulator does
// not. A late prefetch and the on-demand fetch of its row are one read.
//
// Concurrency: not for concurrent use. An access takes the time of the index and the policy.
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
#include "sim/device_reads.hpp"

// X(type, name): the counts of a store (tieralloc/stats.py) that do not depend on bytes.
#define TIERALLOC_SIMULATED_COUNTS(X)      \
  X(std::uint64_t, calls)                  \
  X(std::uint64_t, lookups)                \
  X(std::uint64_t, hits)                   \
  X(std::uint64_t, on_demand_fetches)      \
  X(std::uint64_t, evictions)              \
  X(std::uint64_t, prefetches_issued)      \
  X(std::uint64_t, prefetches_useful)      \
  X(std::uint64_t, prefetches_late)        \
  X(std::uint64_t, prefetches_useless)     \
  X(std::uint64_t, on_demand_device_reads) \
  X(std::uint64_t, prefetch_device_reads)

namespace tieralloc {

struct Counts {
  TIERALLOC_SIMULATED_COUNTS(TIERALLOC_FIELD)
};

inline Statistics statistics_of(const Counts& source) {
  Statistics statistics;
  TIERALLOC_SIMULATED_COUNTS(TIERALLOC_ADD_FIELD)
  return statistics;
}

/// Throws std::out_of_range for a row that is not below `rows`, naming the first one and its
/// position.
void check_rows(std::span<const RowId> accesses, std::uint64_t rows);

/// How the caller of the simulated store batches samples.
struct Calls {
  std::size_t samples = 0;            ///< per call; 0: one access at a time
  std::vector<RowId> table_starts{};  ///< table t has the rows from [t] to [t + 1]
};

/// Throws std::invalid_argument if the lengths of samples do not add up to the number of rows.
void check_lengths(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

/// Of the index of a simulator that need not be small: a tier of up to 2^26 rows.
inline constexpr std::size_t kFastIndexBytes = std::size_t{256} << 20;

class Simulator final : private TierView {
 public:
  /// `policy` is empty and made for `config`; rows are numbered 0 … rows-1. Accesses before number
  /// `count_from` of the stream warm the tier and are not counted. A prefetched row is in flight
  /// for `prefetch_lag` accesses. Slots are used in the order of a store with as many slots. The
  /// index is a fast one if that takes at most `max_index_bytes`. Throws as DeviceReads does.
  Simulator(std::unique_ptr<EvictionPolicy> policy, const EvictionConfig& config,
            std::uint64_t rows, std::uint64_t count_from = 0, std::uint64_t prefetch_lag = 0,
            Calls calls = {}, RowPages pages = {}, std::size_t max_index_bytes = 0);

  /// Replays the next samples of the stream; the last call may have fewer samples. Throws as
  /// check_lengths and check_rows do; nothing is replayed then.
  void run(std::span<const RowId> accesses, std::span<const std::uint32_t> sample_lengths);

  /// Replays accesses one by one; they continue the current sample. Throws as check_rows does, and
  /// std::invalid_argument if the simulator replays calls.
  void run(std::span<const RowId> accesses);

  /// Replays one access to a row below `rows`; true for a hit.
  bool access(RowId row);

  /// Prefetches rows as one batch, except resident rows and rows in flight. Throws as check_rows
  /// does; nothing is issued then.
  void prefetch(std::span<const RowId> rows);

  bool is_resident(RowId row) const override { return index_->find(row) != kAbsent; }

  const Counts& counts() const { return counts_; }

  /// Bytes of DRAM with the smallest index, without the policy and prefetches in flight.
  static std::size_t bytes(const EvictionConfig& config, std::uint64_t rows);

 private:
  Slot find_slot(RowId row) const override;
  RowId row_in(Slot slot) const override { return row_in_[slot]; }

  Counts& active_counts() { return now_ >= count_from_ ? counts_ : uncounted_; }
  void run_call(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);
  void begin_call(std::size_t accesses);
  void expect(std::span<const RowId> accesses);
  bool look_up(RowId row);
  template <typename Observe>
  void step(Observe observe);
  void complete_prefetches();
  void admit(RowId row, bool prefetched);
  void evict();

  std::unique_ptr<EvictionPolicy> policy_;
  Planner* planner_;  ///< null: the policy has none
  std::unique_ptr<RowIndex> index_;
  std::uint64_t rows_;
  std::uint32_t capacity_;
  std::uint32_t resident_ = 0;
  std::vector<RowId> row_in_;  ///< by slot
  std::deque<Slot> free_;      ///< the next one to use first
  std::uint64_t count_from_;
  std::uint64_t prefetch_lag_;
  std::uint64_t now_ = 0;                                 ///< accesses so far
  std::deque<std::pair<RowId, std::uint64_t>> arrivals_;  ///< prefetched rows, in order of arrival
  std::unordered_map<RowId, std::uint64_t> in_flight_;    ///< arrivals, without late prefetches
  std::vector<RowId> prefetches_;                         ///< of the planner's step
  std::vector<RowId> issued_;
  Calls calls_;
  DeviceReads device_reads_;
  std::vector<RowId> call_rows_;  ///< of the call, table by table
  std::vector<RowId> missed_;     ///< of the call, in order
  std::unordered_set<RowId> missed_set_;
  Counts counts_;
  Counts uncounted_;
};

}  // namespace tieralloc
