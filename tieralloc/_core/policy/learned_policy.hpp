// learned_policy.hpp: the learned policy of a tier, the same object in a store and in the
// simulator.
//
// Its parts:
//   RowModel      history, network and calibration: the present value of each row
//   ValueRanking  evicts the row with the lowest value
//   Prefetcher    chooses rows to prefetch
//   Selector      chooses the active policy, this one or a simple one, by miniature simulations
// While a simple policy is active, it holds the rows instead of the ranking. It is then notified of
// hits in `apply`, from the observed accesses.
//
// Concurrency: as EvictionPolicy and Planner; `touch` is concurrent. `stats` may run beside a step.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/statistics.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "policy/model.hpp"
#include "policy/policy_memory.hpp"
#include "policy/prefetcher.hpp"
#include "policy/selector.hpp"
#include "policy/value_ranking.hpp"

// X(type, name). The last miss ratio is the learned policy's.
#define TIERALLOC_LEARNED_STATISTICS(X) \
  X(std::string, active)                \
  X(std::string, network)               \
  X(std::uint64_t, observed)            \
  X(std::uint64_t, evaluations)         \
  X(std::uint64_t, switches)            \
  X(std::uint64_t, sampled)             \
  X(double, sample_rate)                \
  X(PrefetchStats, prefetching)         \
  X(NamedRatios, miss_ratios)

namespace tieralloc {

struct LearnedStats {
  TIERALLOC_LEARNED_STATISTICS(TIERALLOC_FIELD)

  /// The best simple policy, and the share of its fetches that the learned policy avoids; "" and 0
  /// without estimates.
  std::pair<std::string, double> avoided() const;
};

inline Statistics statistics_of(const LearnedStats& source) {
  Statistics statistics;
  TIERALLOC_LEARNED_STATISTICS(TIERALLOC_ADD_FIELD)
  return statistics;
}

class LearnedPolicy final : public EvictionPolicy, public Planner {
 public:
  /// Throws std::invalid_argument for a model that does not fit the tables or the features, and for
  /// too few bytes, naming the number needed.
  LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                const TierTables& tables, const LearnedOptions& options);
  ~LearnedPolicy() override;

  /// Bytes of DRAM without the networks; throws as the constructor does.
  static std::size_t bytes(const EvictionConfig& config, const PolicyModel& model,
                           const TierTables& tables, const LearnedOptions& options);

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override;
  void insert_prefetched(Slot slot, RowId row) override;
  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot> slots) override { ranking_.touch(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const override {
    return ranking_.find_saturated(slots, places);
  }
  Slot evict() override;
  void note_evicted(RowId row) override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

  bool collect(const TierView& tier) override;
  void begin_sample() override;
  void observe(std::span<const RowId> rows) override;
  void expect(RowId row) const override;
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;
  void take_prefetches(std::vector<RowId>& rows) override;
  Slot reserve() const override { return reserve_; }
  PlannerMemory memory() override;
  void adopt_memory() override;
  std::size_t bytes() const override { return bytes_; }

  LearnedStats stats() const;

 private:
  LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                const TierTables& tables, const LearnedOptions& options,
                const PolicyMemory& memory);

  std::string memory_key();
  void notify_simple_of_hits(const TierView& tier);
  void switch_policy(const TierView& tier);
  void update_reserve();
  void publish_stats();

  std::shared_ptr<const PolicyModel> policy_model_;
  EvictionConfig config_;
  PolicyMemory sizes_;
  std::size_t bytes_;
  RowModel row_model_;
  std::unique_ptr<Prefetcher> prefetcher_;  ///< null: no prefetching
  ValueRanking ranking_;
  std::unique_ptr<Selector> selector_;  ///< null: the learned policy is always active
  std::unique_ptr<EvictionPolicy>
      simple_;                      ///< the active simple policy; null: the ranking is active
  bool is_switch_pending_ = false;  ///< the selector has chosen another policy
  std::vector<RowId> accesses_;     ///< of this step, while a simple policy is active
  std::uint64_t observed_ = 0;
  std::uint64_t published_ = 0;  ///< `observed_` when stats were published last
  Slot reserve_ = 0;
  std::uint32_t inserted_ = 0;   ///< since the last step
  float inserted_per_step_ = 0;  ///< decayed maximum
  mutable std::mutex stats_mutex_;
  LearnedStats stats_;
};

/// Returns a function that makes a learned policy for each tier from one model.
MakePolicy make_learned(std::shared_ptr<const PolicyModel> model, const LearnedOptions& options);

}  // namespace tieralloc
