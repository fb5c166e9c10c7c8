// memory_pool.hpp: a slow pool in memory: of a NUMA node, or of this one with an extra latency.
//
// Rows are read in place, by loads: a row's offset in the pool is its address. Tables lie on huge
// pages where they can be had, each in a region of its own that stays where it is for as long as
// the pool lives. Nothing of it outlives the pool.
//
// The extra latency is that of studies on machines that have no second node: whoever reads lines of
// the pool spins for so long a cache line. It is the same for every line, though a CPU's caches
// would hold some lines of real memory.
#pragma once

#include <deque>
#include <mutex>
#include <string>

#include "base/numa/placement.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct MemoryPoolOptions {
  NodeRequest request;   ///< node -1: wherever the kernel likes
  double extra_ns = 0;   ///< a cache line; above 0: emulated
  unsigned overlap = 1;  ///< cache lines of a request whose extra latencies pass at the same time
};

class MemoryPool final : public SlowPool {
 public:
  /// Throws std::invalid_argument for a node that cannot be used.
  explicit MemoryPool(const MemoryPoolOptions& options);

  std::vector<TableLayout> tables() const override;
  /// Throws MemoryShortage where there is too little memory, SystemFailure where binding is
  /// refused.
  TableLayout add_table(TableLayout layout) override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  void write(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void sync() override {}
  std::size_t block() const override { return kCacheLine; }
  std::string kind() const override { return options_.extra_ns > 0 ? "emulated" : "numa"; }
  std::string path() const override;
  std::string engine() const override;
  std::uint64_t bytes() const override;
  std::uint64_t cached_bytes() const override { return 0; }

  bool in_place() const override { return true; }
  void emulate_latency(std::size_t lines) const override;
  MemoryTraits memory() const override;
  Region sample(std::size_t bytes) const override;

 private:
  const MemoryPoolOptions options_;
  mutable std::mutex mutex_;
  std::vector<TableLayout> tables_;
  std::deque<Region> regions_;  ///< one a table
  Placement placement_;
};

}  // namespace tieralloc
