// counters.hpp: the counters of a store, each listed once.
//
// Each call writes into a set of its own, so a counter has one writer: an increment is a relaxed
// load and store. Store::stats() adds the sets up. tieralloc/stats.py documents every counter.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/histogram.hpp"
#include "base/statistics.hpp"

// Counters of calls. X(group, name): `group` is the part of the statistics that has it, "" the top.
#define TIERALLOC_CALL_COUNTERS(X) \
  X("", calls)                     \
  X("", hits)                      \
  X("", on_demand_fetches)         \
  X("", prefetches_useful)         \
  X("", prefetches_late)           \
  X("", on_demand_device_reads)    \
  X("lookup", shared_fetches)      \
  X("lookup", out_of_range)        \
  X("lookup", waited_ns)

// Histograms of nanoseconds. X(name)
#define TIERALLOC_CALL_LATENCIES(X) \
  X(call_hit)                       \
  X(call_on_demand)                 \
  X(row_hit)                        \
  X(row_on_demand)

// Counters of a fast tier, under its mutex. X(group, name)
#define TIERALLOC_TIER_COUNTERS(X) \
  X("", evictions)                 \
  X("", prefetches_issued)         \
  X("", prefetches_useless)        \
  X("", prefetch_device_reads)     \
  X("fast_tier", bypassed)

namespace tieralloc {

/// A count with one writer and many readers.
class Count {
 public:
  void add(std::uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  void clear() { value_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct CallCounters {
#define DECLARE(group, name) Count name;
  TIERALLOC_CALL_COUNTERS(DECLARE)
#undef DECLARE
#define DECLARE(name) Histogram name;
  TIERALLOC_CALL_LATENCIES(DECLARE)
#undef DECLARE

  void clear() {
#define CLEAR(group, name) name.clear();
    TIERALLOC_CALL_COUNTERS(CLEAR)
#undef CLEAR
#define CLEAR(name) name.clear();
    TIERALLOC_CALL_LATENCIES(CLEAR)
#undef CLEAR
  }
};

/// The counters of all calls added up.
struct CallTotals {
#define DECLARE(group, name) std::uint64_t name = 0;
  TIERALLOC_CALL_COUNTERS(DECLARE)
#undef DECLARE
#define DECLARE(name) HistogramSum name;
  TIERALLOC_CALL_LATENCIES(DECLARE)
#undef DECLARE

  void add(const CallCounters& counters) {
#define ADD(group, name) name += counters.name.get();
    TIERALLOC_CALL_COUNTERS(ADD)
#undef ADD
#define ADD(name) name.add(counters.name);
    TIERALLOC_CALL_LATENCIES(ADD)
#undef ADD
  }
};

struct TierCounts {
#define DECLARE(group, name) std::uint64_t name = 0;
  TIERALLOC_TIER_COUNTERS(DECLARE)
#undef DECLARE

  void add(const TierCounts& other) {
#define ADD(group, name) name += other.name;
    TIERALLOC_TIER_COUNTERS(ADD)
#undef ADD
  }
};

inline std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

}  // namespace tieralloc
