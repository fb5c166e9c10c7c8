// store_stats.cpp: the trees of a store's statistics.
#include "store/store_stats.hpp"

namespace tieralloc {
namespace {

// 16 ns to 17 s, the range of tieralloc.stats.LATENCY_BOUNDS_NS.
constexpr int kMinLatencyBits = 4;
constexpr int kMaxLatencyBits = 34;

Statistics statistics_of(const HistogramSum& histogram) {
  return {{"count", histogram.count()},
          {"p50_ns", histogram.percentile(0.5)},
          {"p90_ns", histogram.percentile(0.9)},
          {"p99_ns", histogram.percentile(0.99)},
          {"p999_ns", histogram.percentile(0.999)},
          {"max_ns", histogram.max()},
          {"sum_ns", histogram.sum()},
          {"counts_below", histogram.counts_below(kMinLatencyBits, kMaxLatencyBits)}};
}

StatisticValue measured(double ns) {
  return ns > 0 ? StatisticValue(ns) : StatisticValue();
}

const char* name_of(PromotionRule rule) {
  switch (rule) {
    case PromotionRule::always:
      return "always";
    case PromotionRule::never:
      return "never";
    default:
      return "auto";
  }
}

StatisticValue promotion_of(const SlowTierStats& slow) {
  if (!slow.in_place) return {};
  const PromotionStats& view = slow.admission;
  const LineCosts& costs = view.costs;
  return Statistics{{"rule", std::string(name_of(view.rule))},
                    {"is_active", view.promotes},
                    {"probes", view.trials},
                    {"lookup_ns_with_copies", measured(view.with_copies_ns)},
                    {"lookup_ns_in_place", measured(view.in_place_ns)},
                    {"copy_ns", measured(view.copy_ns)},
                    {"slow_line_ns", costs.slow_ns},
                    {"fast_line_ns", costs.fast_ns},
                    {"cost_ratio", costs.fast_ns > 0 ? costs.slow_ns / costs.fast_ns : 1.0}};
}

Statistics slow_tier_of(const SlowTierStats& slow) {
  const MemoryTraits& memory = slow.memory;
  return {{"kind", slow.kind},
          {"path", slow.path},
          {"engine", slow.engine},
          {"bytes", slow.bytes},
          {"is_emulated", memory.extra_ns > 0},
          {"placement", statistic_of(memory.placement)},
          {"huge_page_bytes", memory.huge_page_bytes},
          {"extra_ns", memory.extra_ns},
          {"overlap",
           memory.extra_ns > 0 ? StatisticValue(std::uint64_t{memory.overlap}) : StatisticValue()}};
}

}  // namespace

Statistics statistics_of(const StoreStats& source) {
  Statistics statistics;
#define ADD(group, name) add_statistic(statistics, group, #name, source.name);
  TIERALLOC_CALL_COUNTERS(ADD)
#undef ADD
#define ADD(group, name) add_statistic(statistics, group, #name, source.tiers.name);
  TIERALLOC_TIER_COUNTERS(ADD)
#undef ADD
  TIERALLOC_STORE_STATISTICS(TIERALLOC_ADD_GROUP_FIELD)
#define ADD(name) add_statistic(statistics, "latency", #name, statistics_of(source.name));
  TIERALLOC_CALL_LATENCIES(ADD)
#undef ADD
  add_statistic(statistics, "fast_tier", "placement", statistic_of(source.fast_placement));
  add_statistic(statistics, "", "slow_tier", slow_tier_of(source.slow));
  add_statistic(statistics, "", "promotion", promotion_of(source.slow));
  Statistics tables;
  for (const TableStats& table : source.tables) {
    tables.push_back({table.name, statistics_of(table)});
  }
  add_statistic(statistics, "", "tables", tables);
  return statistics;
}

Statistics statistics_of(const TableStats& source) {
  Statistics statistics;
  TIERALLOC_TABLE_STATISTICS(TIERALLOC_ADD_FIELD)
#define ADD(name) add_statistic(statistics, "", #name, source.name);
  TIERALLOC_TABLE_COUNTERS(ADD)
#undef ADD
  return statistics;
}

Statistics statistics_of(const PolicyLag& source) {
  Statistics statistics;
  TIERALLOC_POLICY_LAG(TIERALLOC_ADD_FIELD)
  return statistics;
}

Statistics statistics_of(const PolicyStats& source) {
  Statistics statistics;
  TIERALLOC_POLICY_STATISTICS(TIERALLOC_ADD_FIELD)
  return statistics;
}

Statistics all_statistics() {
  StoreStats store;
  store.slow.in_place = true;
  store.slow.memory.placement.node = 0;
  store.fast_placement.node = 0;
  store.tables.emplace_back();
  PolicyStats policy;
  policy.tiers.emplace_back();
  Statistics statistics = statistics_of(store);
  add_statistic(statistics, "", "policy_stats", statistics_of(policy));
  return statistics;
}

}  // namespace tieralloc
