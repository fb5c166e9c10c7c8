// measure.hpp: measures memory: latency of dependent loads, bandwidth, random gathers of rows.
//
// Latencies and gathers are CPU time of the calling thread; bandwidth is wall time of several
// threads. The caller owns the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tieralloc {

/// Dependent loads through all cache lines of [data, data + bytes). Each line contains the address
/// of the next in one random cycle, which no hardware can prefetch.
class PointerChase {
 public:
  PointerChase(std::byte* data, std::size_t bytes, std::uint64_t seed);

  /// Nanoseconds per load over `hops` loads, from the end of the last call on. Calls `between`, if
  /// any, after each load.
  double run(std::size_t hops, const std::function<void()>& between = nullptr);

 private:
  void* at_;
};

/// Nanoseconds per row for rows gathered from [data, data + bytes) and summed as in a lookup: in
/// random order, with prefetches. `flush` first flushes the memory from the CPU's caches, for
/// memory that fits into them.
double gather_row_ns(const std::byte* data, std::size_t bytes, std::size_t row_bytes,
                     std::size_t rows, std::uint64_t seed, bool flush);

/// Bytes per second that one thread per processor read together, sequentially, in `passes` passes.
double stream_bytes_per_second(const std::byte* data, std::size_t bytes,
                               const std::vector<int>& cpus, int passes);

}  // namespace tieralloc
