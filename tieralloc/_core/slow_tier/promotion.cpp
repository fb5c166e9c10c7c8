// promotion.cpp: trials and thresholds.
#include "slow_tier/promotion.hpp"

#include <algorithm>
#include <cmath>

#include "slow_tier/access_counts.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kWindowRows = 1 << 13;
constexpr std::uint64_t kMinHoldRows = 1 << 20;  // between two trials
constexpr std::uint64_t kMaxHoldRows = 1 << 25;
constexpr std::uint64_t kMinWarmRows = 1 << 16;
// Tiers whose costs differ by less are equally fast.
constexpr double kMinCostRatio = 1.1;
// Until the first copy: a lock taken, a row evicted, two index changes, a row copied.
constexpr double kInitialCopyNs = 200;

}  // namespace

PromotionPolicy::PromotionPolicy(PromotionRule rule, const LineCosts& costs)
    : rule_(rule), costs_(costs) {
  restart(0);
}

void PromotionPolicy::restart(std::uint64_t capacity) {
  std::lock_guard lock(mutex_);
  warm_rows_ = std::max(kMinWarmRows, 8 * capacity);
  hold_rows_ = 0;
  const bool is_possible = capacity > 0 && rule_ != PromotionRule::never;
  const bool is_always = rule_ == PromotionRule::always;
  enter(Phase::warming, is_possible && (is_always || is_worth_trying()), warm_rows_);
  if (!promotes() || is_always) window_rows_ = ~std::uint64_t{0};
}

bool PromotionPolicy::is_worth_trying() const {
  return costs_.slow_ns > kMinCostRatio * costs_.fast_ns;
}

void PromotionPolicy::record_call(bool promoting, std::uint64_t rows, std::uint64_t ns) {
  if (promoting != promotes()) return;  // of the previous window
  ns_.fetch_add(ns, std::memory_order_relaxed);
  const std::uint64_t seen = rows_.fetch_add(rows, std::memory_order_relaxed) + rows;
  if (seen < window_rows_.load(std::memory_order_relaxed)) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  const auto is_full = [&] {
    return rows_.load(std::memory_order_relaxed) >= window_rows_.load(std::memory_order_relaxed);
  };
  if (lock && is_full()) end_window();
}

void PromotionPolicy::record_copies(std::uint64_t rows, std::uint64_t ns) {
  const double each =
      static_cast<double>(ns) / static_cast<double>(std::max<std::uint64_t>(1, rows));
  const double before = copy_ns_.load(std::memory_order_relaxed);
  // Bounded, because an interrupted thread measures the interruption.
  const double bounded = before == 0 ? each : std::min(each, 4 * before);
  copy_ns_.store(before == 0 ? each : before + (bounded - before) / 64, std::memory_order_relaxed);
}

std::uint64_t PromotionPolicy::ns_in_place(std::size_t lines) const {
  const double excess = std::max(0.0, costs_.slow_ns - costs_.fast_ns);
  return static_cast<std::uint64_t>(excess * static_cast<double>(lines));
}

unsigned PromotionPolicy::min_accesses(std::size_t lines) const {
  if (rule_ == PromotionRule::always) return 1;
  const double saved = (costs_.slow_ns - costs_.fast_ns) * static_cast<double>(lines);
  const double measured = copy_ns_.load(std::memory_order_relaxed);
  const double cost = measured == 0 ? kInitialCopyNs : measured;
  if (saved <= 0) return AccessCounts::kMaxCount;
  return static_cast<unsigned>(
      std::clamp(std::ceil(cost / saved), 1.0, double{AccessCounts::kMaxCount}));
}

/// Locked.
void PromotionPolicy::end_window() {
  const double ns = static_cast<double>(ns_.load(std::memory_order_relaxed)) /
                    static_cast<double>(rows_.load(std::memory_order_relaxed));
  switch (phase_) {
    case Phase::warming:
      window_ = 0;
      enter(Phase::trying, true, kWindowRows);
      return;
    case Phase::trying:
      end_trial_window(ns);
      return;
    case Phase::holding:
      // Copies that were not used for a while are stale: the fast tier warms up before the trial.
      if (promotes()) {
        window_ = 0;
        enter(Phase::trying, true, kWindowRows);
      } else {
        enter(Phase::warming, true, warm_rows_);
      }
      return;
  }
}

/// Windows with and without copies alternate, so that a slow period affects both.
void PromotionPolicy::end_trial_window(double ns) {
  trial_ns_[window_++] = ns;
  if (window_ < trial_ns_.size()) {
    enter(Phase::trying, window_ % 2 == 0, kWindowRows);
  } else {
    decide();
  }
}

void PromotionPolicy::decide() {
  std::array<double, 5> with{}, without{};
  for (std::size_t i = 0; i < with.size(); ++i) {
    with[i] = trial_ns_[2 * i];
    without[i] = trial_ns_[2 * i + 1];
  }
  std::nth_element(with.begin(), with.begin() + 2, with.end());
  std::nth_element(without.begin(), without.begin() + 2, without.end());
  ++trials_;
  with_copies_ns_ = with[2];
  in_place_ns_ = without[2];
  hold(with[2] <= without[2], std::clamp(2 * hold_rows_, std::max(kMinHoldRows, 16 * warm_rows_),
                                         std::max(kMaxHoldRows, 16 * warm_rows_)));
}

void PromotionPolicy::hold(bool promotes, std::uint64_t rows) {
  hold_rows_ = rows;
  enter(Phase::holding, promotes, rows);
}

void PromotionPolicy::enter(Phase phase, bool promotes, std::uint64_t rows) {
  phase_ = phase;
  window_rows_.store(rows, std::memory_order_relaxed);
  ns_.store(0, std::memory_order_relaxed);
  rows_.store(0, std::memory_order_relaxed);
  promotes_.store(promotes, std::memory_order_relaxed);
}

PromotionStats PromotionPolicy::stats() const {
  std::lock_guard lock(mutex_);
  return {.rule = rule_,
          .promotes = promotes(),
          .trials = trials_,
          .with_copies_ns = with_copies_ns_,
          .in_place_ns = in_place_ns_,
          .copy_ns = copy_ns_.load(std::memory_order_relaxed),
          .costs = costs_};
}

}  // namespace tieralloc
