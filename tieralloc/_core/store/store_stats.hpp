// store_stats.hpp: the statistics of a store and of a policy that plans for it.
//
// tieralloc/stats.py documents every name of the trees made here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/counters.hpp"
#include "base/numa/placement.hpp"
#include "base/statistics.hpp"
#include "policy/learned_policy.hpp"
#include "slow_tier/promotion.hpp"
#include "slow_tier/slow_pool.hpp"
#include "store/table_counters.hpp"

// X(group, type, name). Of a planned policy, `policy_bytes` is what it takes beside the tiers'
// metadata; `write_back_error` is empty once a write-back succeeded again.
#define TIERALLOC_STORE_STATISTICS(X)            \
  X("", std::uint64_t, lookups)                  \
  X("", double, miss_ratio)                      \
  X("", std::uint64_t, prefetches_dropped)       \
  X("", std::uint64_t, fast_rows)                \
  X("", std::vector<int>, background_cpus)       \
  X("lookup", std::uint64_t, accesses_dropped)   \
  X("lookup", std::string, kernels)              \
  X("fast_tier", std::uint64_t, resident_rows)   \
  X("fast_tier", std::uint64_t, pinned_rows)     \
  X("fast_tier", std::uint64_t, resident_tables) \
  X("fast_tier", std::string, index)             \
  X("updates", std::uint64_t, updated_rows)      \
  X("updates", std::uint64_t, dirty_rows)        \
  X("updates", std::uint64_t, unsynced_bytes)    \
  X("updates", std::uint64_t, write_backs)       \
  X("updates", std::uint64_t, write_back_errors) \
  X("updates", std::uint64_t, page_errors)       \
  X("updates", std::string, write_back_error)    \
  X("dram", std::uint64_t, vector_bytes)         \
  X("dram", std::uint64_t, index_bytes)          \
  X("dram", std::uint64_t, metadata_bytes)       \
  X("dram", std::uint64_t, order_bytes)          \
  X("dram", std::uint64_t, staging_bytes)        \
  X("dram", std::uint64_t, log_bytes)            \
  X("dram", std::uint64_t, access_ring_bytes)    \
  X("dram", std::uint64_t, policy_bytes)         \
  X("dram", std::uint64_t, page_cache_bytes)     \
  X("dram", std::uint64_t, total_bytes)          \
  X("dram", std::uint64_t, huge_page_bytes)

// X(type, name), beside TIERALLOC_TABLE_COUNTERS
#define TIERALLOC_TABLE_STATISTICS(X) \
  X(std::uint64_t, lookups)           \
  X(double, miss_ratio)               \
  X(std::uint64_t, on_demand_bytes)   \
  X(std::uint64_t, rows)              \
  X(std::uint64_t, row_bytes)         \
  X(std::uint64_t, bytes)             \
  X(bool, is_resident)

// X(type, name)
#define TIERALLOC_POLICY_LAG(X) \
  X(double, mean)               \
  X(std::uint64_t, max)

// X(type, name). `state` is empty where no policy plans.
#define TIERALLOC_POLICY_STATISTICS(X) \
  X(std::string, state)                \
  X(std::string, reason)               \
  X(std::uint64_t, steps)              \
  X(std::uint64_t, accesses_observed)  \
  X(double, cpu_seconds)               \
  X(PolicyLag, policy_lag)             \
  X(std::uint64_t, pauses)             \
  X(double, saved_seconds)             \
  X(double, spent_seconds)             \
  X(std::vector<LearnedStats>, tiers)

namespace tieralloc {

struct SlowTierStats {
  std::string kind, path, engine;
  std::uint64_t bytes = 0;
  bool in_place = false;
  MemoryTraits memory;  ///< where rows are read in place
  PromotionStats admission;
};

struct TableStats : TableTotals {
  std::string name;
  TIERALLOC_TABLE_STATISTICS(TIERALLOC_FIELD)
};

struct StoreStats : CallTotals {
  TIERALLOC_STORE_STATISTICS(TIERALLOC_GROUP_FIELD)
  TierCounts tiers;
  SlowTierStats slow;
  Placement fast_placement;
  std::vector<TableStats> tables;  ///< in order of creation
};

struct PolicyLag {
  TIERALLOC_POLICY_LAG(TIERALLOC_FIELD)
};

struct PolicyStats {
  TIERALLOC_POLICY_STATISTICS(TIERALLOC_FIELD)
};

Statistics statistics_of(const StoreStats& source);
Statistics statistics_of(const TableStats& source);
Statistics statistics_of(const PolicyLag& source);
Statistics statistics_of(const PolicyStats& source);

/// Every name that the statistics of a store can have, with values of no meaning: "policy_stats"
/// has those of a planned policy, and groups that do not always apply are there.
Statistics all_statistics();

}  // namespace tieralloc
