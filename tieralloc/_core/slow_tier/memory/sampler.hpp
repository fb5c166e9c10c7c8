// sampler.hpp: repeated measurements of a node's memory from some processors.
//
// One call at a time: concurrent calls would disturb each other.
#pragma once

#include <cstdint>
#include <vector>

#include "base/numa/placement.hpp"

namespace tieralloc {

struct MemoryQuestion {
  int node = 0;
  std::vector<int> cpus;    ///< the first one for latencies and gathers, all of them for bandwidth
  std::uint64_t bytes = 0;  ///< of memory, more than the CPU's caches
  int repeats = 0;
  std::vector<std::uint32_t> row_bytes;  ///< of rows to gather, multiples of a cache line
};

/// One sample per repetition.
struct MemorySamples {
  std::vector<double> load_ns;                 ///< per dependent load
  std::vector<double> bytes_per_second;        ///< all processors together
  std::vector<std::vector<double>> gather_ns;  ///< per row, for each size
  Placement placement;
  std::uint64_t huge_page_bytes = 0;
};

/// Throws std::invalid_argument for an unusable node or processor, and what NodeScope throws.
MemorySamples sample_memory(const MemoryQuestion& question);

struct ChaseSamples {
  std::vector<double> plain_ns;  ///< per dependent load of local memory
  std::vector<double> extra_ns;  ///< the same with the emulated latency
};

/// The effect of an emulated latency per cache line on dependent loads, alternating.
ChaseSamples sample_emulation(double extra_ns, std::uint64_t bytes, int repeats);

}  // namespace tieralloc
