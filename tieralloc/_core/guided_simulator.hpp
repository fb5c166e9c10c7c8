// guided_simulator.hpp: replays accesses under the decisions of models, chunk by chunk.
//
// What is decided of a chunk (which of its rows deserve to stay, what to fetch ahead) takes effect
// after the last access of the chunk, as in a runtime that keeps pace and no more.
#pragma once

#include <cstdint>
#include <span>

#include "eviction/priority.hpp"
#include "simulator.hpp"
#include "types.hpp"

namespace tieralloc {

class GuidedSimulator {
 public:
  /// Throws std::invalid_argument for a capacity or chunk of 0, or as PriorityPolicy does.
  GuidedSimulator(std::uint32_t capacity, std::uint64_t rows, std::uint32_t chunk,
                  std::uint32_t eviction_speed, std::uint64_t count_from = 0,
                  std::uint64_t prefetch_lag = 0);

  /// Replays the next piece of the stream, whole chunks and, at the end of the stream, what is left
  /// over, of which nothing is decided. `keep` says of each access to a whole chunk whether its row
  /// gets the highest priority or the ordinary one; `prefetches` from offsets[c] to offsets[c + 1]
  /// are fetched after chunk c. Throws, nothing replayed, std::invalid_argument where the sizes
  /// contradict each other, or as check_rows does.
  void run(std::span<const RowId> accesses, std::span<const std::uint8_t> keep,
           std::span<const RowId> prefetches, std::span<const std::uint64_t> offsets);

  /// How far each row is from leaving, as PriorityPolicy::standing; -1 for one that is not there.
  /// Throws as check_rows does.
  void write_standings(std::span<const RowId> rows, double* standings) const;

  /// DRAM that one takes, prefetches in flight aside.
  static std::size_t bytes(std::uint32_t capacity, std::uint64_t rows);

  const Counts& counts() const { return simulator_.counts(); }

 private:
  GuidedSimulator(std::unique_ptr<PriorityPolicy> policy, std::uint32_t capacity,
                  std::uint64_t rows, std::uint32_t chunk, std::uint64_t count_from,
                  std::uint64_t prefetch_lag);

  PriorityPolicy& policy_;
  Simulator simulator_;
  std::uint64_t rows_;
  std::uint32_t chunk_;
};

}  // namespace tieralloc
