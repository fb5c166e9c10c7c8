// admission.cpp: trials, and counts that fade.
#include "slow_tier/admission.hpp"

#include <algorithm>
#include <cmath>

#include "slow_tier/access_counts.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kWindow = 1 << 13;        // lookups timed at a time
constexpr std::uint64_t kShortestHold = 1 << 20;  // lookups between two trials
constexpr std::uint64_t kLongestHold = 1 << 25;
constexpr std::uint64_t kLeastWarming = 1 << 16;
// Tiers that differ by less take the same time.
constexpr double kLeastRatio = 1.1;
// Until some have been made: a lock taken, a row evicted, an index changed twice, a row copied.
constexpr double kCopyGuessNs = 200;

}  // namespace

Admission::Admission(AdmissionRule rule, const LineCosts& costs) : rule_(rule), costs_(costs) {
  begin(0);
}

void Admission::begin(std::uint64_t capacity) {
  std::lock_guard lock(mutex_);
  warm_rows_ = std::max(kLeastWarming, 8 * capacity);
  hold_rows_ = 0;
  const bool possible = capacity > 0 && rule_ != AdmissionRule::never;
  enter(Phase::warming, possible && (rule_ == AdmissionRule::always || worth_trying()), warm_rows_);
  if (!admits() || rule_ == AdmissionRule::always) due_ = ~std::uint64_t{0};
}

bool Admission::worth_trying() const {
  return costs_.slow_ns > kLeastRatio * costs_.fast_ns;
}

void Admission::note_call(bool admitting, std::uint64_t rows, std::uint64_t ns) {
  if (admitting != admits()) return;  // began before the turn
  ns_.fetch_add(ns, std::memory_order_relaxed);
  const std::uint64_t seen = rows_.fetch_add(rows, std::memory_order_relaxed) + rows;
  if (seen < due_.load(std::memory_order_relaxed)) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock && rows_.load(std::memory_order_relaxed) >= due_.load(std::memory_order_relaxed)) turn();
}

void Admission::note_copies(std::uint64_t rows, std::uint64_t ns) {
  const double each =
      static_cast<double>(ns) / static_cast<double>(std::max<std::uint64_t>(1, rows));
  const double before = copy_ns_.load(std::memory_order_relaxed);
  // A thread that was interrupted says nothing of what copies take.
  const double bounded = before == 0 ? each : std::min(each, 4 * before);
  copy_ns_.store(before == 0 ? each : before + (bounded - before) / 64, std::memory_order_relaxed);
}

std::uint64_t Admission::ns_in_place(std::size_t lines) const {
  const double beyond = std::max(0.0, costs_.slow_ns - costs_.fast_ns);
  return static_cast<std::uint64_t>(beyond * static_cast<double>(lines));
}

unsigned Admission::accesses_needed(std::size_t lines) const {
  if (rule_ == AdmissionRule::always) return 1;
  const double saved = (costs_.slow_ns - costs_.fast_ns) * static_cast<double>(lines);
  const double measured = copy_ns_.load(std::memory_order_relaxed);
  const double price = measured == 0 ? kCopyGuessNs : measured;
  if (saved <= 0) return AccessCounts::kMaxCount;
  return static_cast<unsigned>(
      std::clamp(std::ceil(price / saved), 1.0, double{AccessCounts::kMaxCount}));
}

/// A window is full. Locked.
void Admission::turn() {
  const double ns = static_cast<double>(ns_.load(std::memory_order_relaxed)) /
                    static_cast<double>(rows_.load(std::memory_order_relaxed));
  switch (phase_) {
    case Phase::warming:
      window_ = 0;
      enter(Phase::trying, true, kWindow);
      return;
    case Phase::trying:
      try_window(ns);
      return;
    case Phase::holding:
      // Copies that nobody looked for have grown old: they get time to become what they would be.
      if (admits()) {
        window_ = 0;
        enter(Phase::trying, true, kWindow);
      } else {
        enter(Phase::warming, true, warm_rows_);
      }
      return;
  }
}

/// Windows take turns, with copies and without, so that what slows both down cancels out.
void Admission::try_window(double ns) {
  took_[window_++] = ns;
  if (window_ < took_.size()) {
    enter(Phase::trying, window_ % 2 == 0, kWindow);
  } else {
    decide();
  }
}

void Admission::decide() {
  std::array<double, 5> with{}, without{};
  for (std::size_t i = 0; i < with.size(); ++i) {
    with[i] = took_[2 * i];
    without[i] = took_[2 * i + 1];
  }
  std::nth_element(with.begin(), with.begin() + 2, with.end());
  std::nth_element(without.begin(), without.begin() + 2, without.end());
  ++trials_;
  with_copies_ns_ = with[2];
  in_place_ns_ = without[2];
  hold(with[2] <= without[2], std::clamp(2 * hold_rows_, std::max(kShortestHold, 16 * warm_rows_),
                                         std::max(kLongestHold, 16 * warm_rows_)));
}

void Admission::hold(bool admits, std::uint64_t rows) {
  hold_rows_ = rows;
  enter(Phase::holding, admits, rows);
}

void Admission::enter(Phase phase, bool admits, std::uint64_t rows) {
  phase_ = phase;
  due_.store(rows, std::memory_order_relaxed);
  ns_.store(0, std::memory_order_relaxed);
  rows_.store(0, std::memory_order_relaxed);
  admits_.store(admits, std::memory_order_relaxed);
}

AdmissionView Admission::view() const {
  std::lock_guard lock(mutex_);
  return {.rule = rule_,
          .admits = admits(),
          .trials = trials_,
          .with_copies_ns = with_copies_ns_,
          .in_place_ns = in_place_ns_,
          .copy_ns = copy_ns_.load(std::memory_order_relaxed),
          .costs = costs_};
}

}  // namespace tieralloc
