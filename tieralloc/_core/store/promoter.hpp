// promoter.hpp: copies rows that are read in place, for lookups, prefetches and pins.
//
// A row is copied under the lock of its tier, and only while the tier holds no copy of it: then no
// thread writes to the row in the slow tier. Any number of threads.
#pragma once

#include <functional>
#include <span>

#include "fast_tier/fast_tier.hpp"
#include "slow_tier/promotion.hpp"
#include "slow_tier/slow_pool.hpp"
#include "store/call_scratch.hpp"
#include "store/fetcher.hpp"

namespace tieralloc {

class Promoter {
 public:
  Promoter(const SlowPool& pool, PromotionPolicy& policy) : pool_(pool), policy_(policy) {}

  /// Copies rows of one tier that a lookup has read in place, if the tier admits them.
  void promote(FastTier& tier, std::span<const TierRow> rows);

  /// Copies rows, marked as prefetched.
  void prefetch(std::span<const RowPlace> rows);

  /// As Fetcher::pin.
  void pin(std::span<Miss> rows);

 private:
  bool take_pin(Miss& row);
  std::uint64_t copy(FastTier& tier, std::span<const TierRow> rows, FastTier::Admit reason);

  const SlowPool& pool_;
  PromotionPolicy& policy_;
};

}  // namespace tieralloc
