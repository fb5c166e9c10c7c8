// learned_policy.hpp: the learned policy, as a store and the simulator run it.
//
// It is made of
//   RowModel      history, network and calibration: what each row is worth
//   ValueRanking  evicts the resident of the lowest present value
//   Prefetcher    chooses rows to fetch before a lookup asks for them
//   Selector      miniature simulations of it and of simple policies: which one is active
// While a simple policy is active it holds the rows instead of the ranking; hits reach it through
// the accesses that are observed.
//
// Concurrency: as EvictionPolicy and Planner say; `touch` is concurrent. `stats` may run beside a
// step.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/statistics.hpp"
#include "eviction/planner.hpp"
#include "eviction/policy.hpp"
#include "policy/model.hpp"
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

  /// The best simple policy, and the share of fetches that the learned one avoids beyond it; "" and
  /// 0 where nothing is known.
  std::pair<std::string, double> avoided() const;
};

inline Statistics statistics_of(const LearnedStats& source) {
  Statistics statistics;
  TIERALLOC_LEARNED_STATISTICS(TIERALLOC_ADD_FIELD)
  return statistics;
}

class LearnedPolicy final : public EvictionPolicy, public Planner {
 public:
  /// How much is remembered.
  struct Memory {
    HistoryConfig history;
    std::uint32_t partners = 0;   ///< rows whose partners are known
    std::uint32_t miniature = 0;  ///< rows of each miniature simulation
  };

  /// Throws std::invalid_argument for a model that does not fit the tables or the features, and for
  /// too few bytes, naming how many are needed.
  LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                const TierTables& tables, const LearnedOptions& options);
  ~LearnedPolicy() override;

  /// DRAM of one, its networks aside; throws as the constructor does.
  static std::size_t bytes(const EvictionConfig& config, const PolicyModel& model,
                           const TierTables& tables, const LearnedOptions& options);

  /// The simple policies that may become active.
  static std::vector<std::string> simple_policies() { return {"s3fifo", "lru", "sieve"}; }

  Planner* planner() override { return this; }
  void insert(Slot slot, RowId row) override;
  void insert_prefetched(Slot slot, RowId row) override;
  bool touch_is_concurrent() const override { return true; }
  void touch(std::span<const Slot> slots) override { ranking_.touch(slots); }
  std::size_t find_saturated(std::span<const Slot> slots, std::uint32_t* places) const override {
    return ranking_.find_saturated(slots, places);
  }
  Slot evict() override;
  void remove(Slot slot) override;
  void move(Slot from, Slot to) override;

  bool collect(const TierView& tier) override;
  void begin_sample() override;
  void observe(std::span<const RowId> rows) override;
  void evaluate(const TierView& tier) override;
  void apply(const TierView& tier) override;
  void take_prefetches(std::vector<RowId>& rows) override;
  Slot reserve() const override { return reserve_; }
  std::size_t bytes() const override { return bytes_; }

  LearnedStats stats() const;

 private:
  LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                const TierTables& tables, const LearnedOptions& options, const Memory& memory);

  void touch_simple(const TierView& tier);
  void switch_policy(const TierView& tier);
  void update_reserve();
  void publish_stats();

  std::shared_ptr<const PolicyModel> trained_;
  EvictionConfig config_;
  std::size_t bytes_;
  RowModel model_;
  std::unique_ptr<Prefetcher> prefetcher_;  ///< null: nothing is prefetched
  ValueRanking ranking_;
  std::unique_ptr<Selector> selector_;      ///< null: the learned policy alone
  std::unique_ptr<EvictionPolicy> simple_;  ///< active, and holds the rows; null: the ranking does
  bool switches_ = false;                   ///< the selector has chosen another one
  std::vector<RowId> accesses_;             ///< of this step, while a simple policy is active
  std::uint64_t observed_ = 0;
  std::uint64_t published_ = 0;  ///< observed when stats were published last
  Slot reserve_ = 0;
  std::uint32_t inserted_ = 0;   ///< since the last step
  float inserted_per_step_ = 0;  ///< decayed maximum
  mutable std::mutex stats_mutex_;
  LearnedStats stats_;
};

/// Makes learned policies of a model, one per tier.
MakePolicy make_learned(std::shared_ptr<const PolicyModel> model, const LearnedOptions& options);

}  // namespace tieralloc
