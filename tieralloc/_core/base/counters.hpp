// counters.hpp: counters and histograms of calls. Each running call has a set of its own; stats()
// sums the sets.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/histogram.hpp"

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
  Count calls;
  Count hits;               ///< rows found in the fast tier, or fetched by the same call before
  Count on_demand_fetches;  ///< distinct rows of a call fetched while it waits
  Count shared_fetches;     ///< of these, reads started by another call
  Count prefetches_useful;
  Count prefetches_late;
  Count out_of_range;  ///< indices served as row 0 under bounds_check_mode="warning"
  Count waited_ns;     ///< ns that calls waited for the slow tier, summed over threads

  Histogram call_hit;        ///< ns per call without a miss
  Histogram call_on_demand;  ///< ns per call that waited for the slow tier
  Histogram row_hit;         ///< ns per row in calls without a miss
  Histogram row_on_demand;   ///< ns from submission to completion of a read, per row

  void clear() {
    for (Count* count : {&calls, &hits, &on_demand_fetches, &shared_fetches, &prefetches_useful,
                         &prefetches_late, &out_of_range, &waited_ns}) {
      count->clear();
    }
    for (Histogram* histogram : {&call_hit, &call_on_demand, &row_hit, &row_on_demand}) {
      histogram->clear();
    }
  }
};

inline std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

}  // namespace tieralloc
