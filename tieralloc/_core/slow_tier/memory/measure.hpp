// measure.hpp: what memory takes: a chase of dependent loads, streams, and rows gathered at random.
//
// Each function times the calling thread while it has a processor, but for streams, which have
// threads of their own and are timed by the clock. Memory is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tieralloc {

/// A chase through all cache lines of [data, data + bytes), each holding the address of the next,
/// in one random cycle: nothing can load ahead.
class PointerChase {
 public:
  PointerChase(std::byte* data, std::size_t bytes, std::uint64_t seed);

  /// Nanoseconds a load of `hops` of them, from where the last call ended. `between`, if any, is
  /// called after every load and before the next.
  double run(std::size_t hops, const std::function<void()>& between = nullptr);

 private:
  void* at_;
};

/// Nanoseconds a row of rows gathered from [data, data + bytes) and summed, as a lookup does it: in
/// random order, with the memory of some rows ahead asked for. `flush` first throws the rows out of
/// the CPU's caches, for memory that is smaller than they are.
double gather_row_ns(const std::byte* data, std::size_t bytes, std::size_t row_bytes,
                     std::size_t rows, std::uint64_t seed, bool flush);

/// Bytes a second that threads, one pinned to each processor, read together from memory from first
/// to last byte, for as many passes.
double stream_bytes_per_second(const std::byte* data, std::size_t bytes,
                               const std::vector<int>& cpus, int passes);

}  // namespace tieralloc
