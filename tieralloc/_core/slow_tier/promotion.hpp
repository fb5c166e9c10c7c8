// promotion.hpp: whether rows that can be read in place are copied to the fast tier.
//
// A copy has two costs: the copying, and the search for copies in each lookup. Each later use saves
// the difference of a row's cost in the slow tier and in the fast tier. Two rules apply.
//
//   one row      Copy a row once its reads in place have cost as much beyond hits as a copy costs.
//                The total is at most twice the optimum in hindsight (ski rental; Karlin, Manasse,
//                Rudolph and Sleator, "Competitive snoopy caching", Algorithmica 3, 1988). The
//                costs are measured: of rows when the store opens, of copies when they are made.
//   all rows     A trial times lookups with and without copies in alternating windows. The faster
//                mode stays until the next trial; the interval doubles from trial to trial, within
//                bounds. So a fast tier without benefit costs the trials only. If the slow tier is
//                as fast as the fast tier there are no trials and no copies.
//
// Concurrency: any number of threads. Cost: O(1) per call; a lock once per window.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "base/types.hpp"

namespace tieralloc {

/// Nanoseconds per cache line of random rows, with as many reads in flight as in a lookup.
struct LineCosts {
  double slow_ns = 0;
  double fast_ns = 0;
};

enum class PromotionRule { automatic, always, never };

struct PromotionStats {
  PromotionRule rule = PromotionRule::automatic;
  bool promotes = true;
  std::uint64_t trials = 0;
  double with_copies_ns = 0, in_place_ns = 0;  ///< per lookup in the last trial; 0: no trial yet
  double copy_ns = 0;                          ///< per row; 0: no copy yet
  LineCosts costs;
};

class PromotionPolicy {
 public:
  PromotionPolicy(PromotionRule rule, const LineCosts& costs);

  /// Restarts for fast tiers of `capacity` rows in total. With 0 rows are never copied.
  void restart(std::uint64_t capacity);

  /// Whether lookups search for copies and make copies.
  bool promotes() const { return promotes_.load(std::memory_order_relaxed); }

  /// Records the duration of a call that started while `promotes()` was `promoting`.
  void record_call(bool promoting, std::uint64_t rows, std::uint64_t ns);

  /// Records the duration of copying `rows` rows.
  void record_copies(std::uint64_t rows, std::uint64_t ns);

  /// Nanoseconds that reading `lines` cache lines costs more in the slow tier than in the fast
  /// tier.
  std::uint64_t ns_in_place(std::size_t lines) const;

  /// Accesses in the slow tier after which a row of `lines` cache lines is copied.
  unsigned min_accesses(std::size_t lines) const;

  PromotionStats stats() const;

 private:
  enum class Phase { warming, trying, holding };

  bool is_worth_trying() const;
  void end_window();
  void end_trial_window(double ns);
  void decide();
  void hold(bool promotes, std::uint64_t rows);
  void enter(Phase phase, bool promotes, std::uint64_t rows);

  const PromotionRule rule_;
  const LineCosts costs_;
  std::atomic<bool> promotes_{true};
  std::atomic<std::uint64_t> rows_{0}, ns_{0};  ///< of the calls of this window
  std::atomic<std::uint64_t> window_rows_{0};   ///< rows that end the window
  std::atomic<double> copy_ns_{0};

  mutable std::mutex mutex_;
  Phase phase_ = Phase::warming;
  std::uint64_t warm_rows_ = 0;
  std::uint64_t hold_rows_ = 0;
  std::size_t window_ = 0;  ///< of the trial
  std::array<double, 10> trial_ns_{};
  std::uint64_t trials_ = 0;
  double with_copies_ns_ = 0, in_place_ns_ = 0;
};

}  // namespace tieralloc
