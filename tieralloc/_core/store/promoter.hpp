// promoter.hpp: copies of rows that are read in place, made for lookups, prefetches and pins.
//
// A row is copied under its tier's lock, and only while the tier holds no copy of it: nobody writes
// to its home then. Any number of threads.
#pragma once

#include <functional>
#include <span>

#include "fast_tier/fast_tier.hpp"
#include "slow_tier/admission.hpp"
#include "slow_tier/slow_pool.hpp"
#include "store/call_scratch.hpp"
#include "store/fetcher.hpp"

namespace tieralloc {

class Promoter {
 public:
  Promoter(const SlowPool& pool, Admission& admission) : pool_(pool), admission_(admission) {}

  /// Copies of the rows of one tier, which a lookup has just read in place, those that are worth
  /// it.
  void promote(FastTier& tier, std::span<const TierRow> rows);

  /// Copies all of the rows, flagged as prefetched.
  void prefetch(std::span<const RowPlace> rows);

  /// Makes rows of one tier resident and pins them, as Fetcher::pin does.
  void pin(std::span<Miss> rows, const std::function<void()>& make_room);

 private:
  bool take_pin(Miss& row);
  std::uint64_t copy(FastTier& tier, std::span<const TierRow> rows, FastTier::Admit why);

  const SlowPool& pool_;
  Admission& admission_;
};

}  // namespace tieralloc
