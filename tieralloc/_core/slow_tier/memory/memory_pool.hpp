// memory_pool.hpp: a slow pool in memory: of a NUMA node, or of any node with an emulated latency.
//
// Rows are read in place: the offset of a row is its address, which does not change. Each table has
// a region of its own, on huge pages if possible. The tables end with the pool.
//
// The emulated latency is for studies on machines without a second node: a reader spins for each
// cache line. Unlike real memory, each line costs the same, because no CPU cache is modelled.
#pragma once

#include <deque>
#include <mutex>
#include <string>

#include "base/numa/placement.hpp"
#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

struct MemoryPoolOptions {
  NodeRequest request;   ///< node -1: any
  double extra_ns = 0;   ///< per cache line; above 0: emulated
  unsigned overlap = 1;  ///< cache lines of a request whose extra latencies overlap
};

class MemoryPool final : public SlowPool {
 public:
  /// Throws std::invalid_argument for an unusable node.
  explicit MemoryPool(const MemoryPoolOptions& options);

  std::vector<TableLayout> tables() const override;
  /// Throws MemoryShortage if memory is short, SystemFailure if the kernel refuses to bind it.
  TableLayout add_table(TableLayout layout) override;
  void remove_table(const TableLayout& table) override;
  TableLayout prepare_growth(const TableLayout& table, std::uint64_t rows) override;
  void grow_table(const TableLayout& table, const TableLayout& grown) override;
  void free_space(const TableLayout& former) noexcept override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  void update(const TableLayout& table, std::span<const TableRow> rows,
              const std::byte* values) override;
  void load(const TableLayout& table, TableRow first, std::uint64_t rows,
            const std::byte* values) override;
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
  void allocate(TableLayout& layout);

  mutable std::mutex mutex_;
  std::vector<TableLayout> tables_;
  std::deque<Region> regions_;  ///< one per table, and of former ones until `free_space`
  Placement placement_;
};

}  // namespace tieralloc
