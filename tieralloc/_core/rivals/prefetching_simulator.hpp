// prefetching_simulator.hpp: replays accesses through an eviction policy with a prefetcher beside
// it.
//
// After each access the prefetcher is told what it found, and what it says is fetched ahead, where
// it is neither resident nor in flight. Rows fetched ahead take places in the same tier. Not for
// concurrent use.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "../simulator.hpp"
#include "row_prefetcher.hpp"

namespace tieralloc {

class PrefetchingSimulator {
 public:
  /// As Simulator, with a prefetcher, which may know something already.
  PrefetchingSimulator(std::unique_ptr<EvictionPolicy> policy, std::uint32_t capacity,
                       std::uint64_t rows, std::uint64_t count_from, std::uint64_t prefetch_lag,
                       std::shared_ptr<RowPrefetcher> prefetcher);

  /// Replays the next samples of the stream; throws as check_rows and check_lengths do, nothing
  /// replayed, and as the prefetcher does, what was replayed until then staying.
  void run(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths);

  const Counts& counts() const { return simulator_.counts(); }

 private:
  std::uint64_t rows_;
  std::shared_ptr<RowPrefetcher> prefetcher_;
  Simulator simulator_;
  std::vector<RowId> ahead_;
};

}  // namespace tieralloc
