// table_counters.hpp: counts per table, each counter listed once.
//
// Each CallState has a set of its own, so a counter has one writer, the holder of the ReadGuard;
// any thread reads. Lookups of a call in progress are kept apart, so that `hits` never decreases.
// A set grows with the positions that a call needs. Cost: O(1). tieralloc/stats.py documents every
// counter.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/counters.hpp"
#include "base/types.hpp"

// X(name)
#define TIERALLOC_TABLE_COUNTERS(X) \
  X(hits)                           \
  X(on_demand_fetches)              \
  X(on_demand_device_reads)         \
  X(out_of_range)                   \
  X(updated_rows)

namespace tieralloc {

class alignas(kCacheLine) TableCounters {
 public:
#define DECLARE(name) Count name;
  TIERALLOC_TABLE_COUNTERS(DECLARE)
#undef DECLARE

  /// Of the call in progress.
  void add_lookups(std::uint64_t rows) { lookups_ += rows; }
  void add_fetches(std::uint64_t rows) {
    on_demand_fetches.add(rows);
    fetches_ += rows;
  }
  /// Ends the call. Rows that it did not fetch were hits.
  void end_call() {
    hits.add(lookups_ - fetches_);
    drop_call();
  }
  /// Ends a call that failed, as CallCounters do: its fetches count, its hits do not.
  void drop_call() { lookups_ = fetches_ = 0; }

  /// Goes on with the counts of another.
  void copy(const TableCounters& other) {
#define COPY(name) name.add(other.name.get());
    TIERALLOC_TABLE_COUNTERS(COPY)
#undef COPY
    lookups_ = other.lookups_;
    fetches_ = other.fetches_;
  }

  void clear() {
#define CLEAR(name) name.clear();
    TIERALLOC_TABLE_COUNTERS(CLEAR)
#undef CLEAR
  }

 private:
  std::uint64_t lookups_ = 0;
  std::uint64_t fetches_ = 0;
};

/// The counters of a table added up.
struct TableTotals {
#define DECLARE(name) std::uint64_t name = 0;
  TIERALLOC_TABLE_COUNTERS(DECLARE)
#undef DECLARE

  void add(const TableCounters& counters) {
#define ADD(name) name += counters.name.get();
    TIERALLOC_TABLE_COUNTERS(ADD)
#undef ADD
  }
};

/// The counters of a thread's calls, by position of the table.
class TableCounterSet {
 public:
  TableCounterSet() = default;
  TableCounterSet(const TableCounterSet&) = delete;

  /// Makes counters of tables 0 ... tables - 1, which may move. Throws std::bad_alloc. One thread
  /// at a time, as `at`.
  void reserve(std::size_t tables) {
    if (tables > size_) grow(static_cast<std::uint32_t>(tables));
  }
  TableCounters& at(std::uint32_t position) { return counters_[position]; }

  /// Null if there are none. Any thread.
  const TableCounters* find(std::uint32_t position) const {
    const Block* block = block_.load(std::memory_order_acquire);
    return block == nullptr || position >= block->size ? nullptr : &block->counters[position];
  }

  /// Sets all counters to 0, while there are no calls.
  void clear() {
    for (std::uint32_t i = 0; i < size_; ++i) counters_[i].clear();
  }

 private:
  struct Block {
    explicit Block(std::uint32_t tables)
        : size(tables), counters(std::make_unique<TableCounters[]>(tables)) {}
    const std::uint32_t size;
    const std::unique_ptr<TableCounters[]> counters;
  };

  /// Readers may still read the former blocks, whose counts stay as they are.
  void grow(std::uint32_t tables) {
    auto next = std::make_unique<const Block>(std::bit_ceil(std::max(kMinTables, tables)));
    for (std::uint32_t i = 0; i < size_; ++i) next->counters[i].copy(counters_[i]);
    blocks_.push_back(std::move(next));
    const Block& block = *blocks_.back();
    counters_ = block.counters.get();
    size_ = block.size;
    block_.store(&block, std::memory_order_release);
  }

  static constexpr std::uint32_t kMinTables = 32;

  TableCounters* counters_ = nullptr;  ///< of the last block
  std::uint32_t size_ = 0;
  std::vector<std::unique_ptr<const Block>> blocks_;  ///< each at least twice the one before
  std::atomic<const Block*> block_{nullptr};          ///< the last one
};

}  // namespace tieralloc
