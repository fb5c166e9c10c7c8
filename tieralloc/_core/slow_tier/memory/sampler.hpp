// sampler.hpp: what a node's memory takes as seen from some processors, measured again and again.
//
// One call at a time: calls side by side would measure each other.
#pragma once

#include <cstdint>
#include <vector>

#include "base/numa/placement.hpp"

namespace tieralloc {

struct MemoryQuestion {
  int node = 0;
  std::vector<int> cpus;    ///< the first one chases and gathers, all of them stream
  std::uint64_t bytes = 0;  ///< of memory: more than the CPU's caches hold
  int repeats = 0;
  std::vector<std::uint32_t> row_bytes;  ///< of rows to be gathered, multiples of a cache line
};

/// A sample a repeat.
struct MemorySamples {
  std::vector<double> load_ns;                 ///< a dependent load
  std::vector<double> bytes_per_second;        ///< read by all processors together
  std::vector<std::vector<double>> gather_ns;  ///< a row of each size
  Placement placement;
  std::uint64_t huge_page_bytes = 0;
};

/// Throws std::invalid_argument for a node or processors that cannot be used, MemoryShortage and
/// SystemFailure as NodeScope does.
MemorySamples sample_memory(const MemoryQuestion& question);

struct ChaseSamples {
  std::vector<double> plain_ns;  ///< a dependent load of local memory
  std::vector<double> extra_ns;  ///< the same with the extra latency that is to be emulated
};

/// What a pool with so much extra latency a cache line adds to a chase through memory, in turns.
ChaseSamples sample_emulation(double extra_ns, std::uint64_t bytes, int repeats);

}  // namespace tieralloc
