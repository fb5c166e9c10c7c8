// planning.cpp: a policy that plans in the background.
//
//   each step, after about kStepAccesses accesses:
//     drain the access rings
//     per tier: the policy observes the accesses, evaluates rows, applies its decisions
//     queue the rows that the policies prefetch
//   a policy that fails is replaced by the simple one; a policy that costs more than it saves is
//   paused (policy/cost_benefit.hpp)
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "base/numa/cpus.hpp"
#include "base/thread_class.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

using Clock = std::chrono::steady_clock;
using Micros = std::chrono::microseconds;

constexpr double kStepAccesses = 128;
constexpr Micros kMinWait{100};
constexpr Micros kMaxWait{5000};
constexpr Micros kPauseWait{50000};
constexpr std::size_t kRingWords = 1 << 16;  // 512 KiB per serving thread
constexpr int kNice = 10;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// The wait after a step that observed this many accesses in this time: until about kStepAccesses
/// have come. A step without accesses may fall into one slow call: the wait only doubles.
Micros next_wait(Micros wait, std::size_t accesses, double seconds) {
  const Micros longest = std::min(2 * wait, kMaxWait);
  if (accesses == 0) return longest;
  const double wanted = kStepAccesses * seconds / static_cast<double>(accesses);
  return std::clamp(Micros(static_cast<std::int64_t>(wanted * 1e6)), kMinWait, longest);
}

/// An external policy may return any number.
void check_prefetches(std::span<const RowId> rows, RowId below) {
  for (const RowId row : rows) {
    if (row < below) continue;
    throw std::out_of_range("prefetches: expected rows below " + std::to_string(below) + ", got " +
                            std::to_string(row));
  }
}

}  // namespace

std::uint64_t Store::lookups() const {
  std::uint64_t sum = 0;
  states_.each([&](const CallState& state) {
    sum += state.counters.hits.get() + state.counters.on_demand_fetches.get();
  });
  return sum;
}

TierTables Store::tables_of(const FastTier& tier) const {
  TierTables tables;
  for (const Table& table : tables_) {
    if (table.tier != &tier) continue;
    tables.starts.push_back(table.first_tier_row.value);
    tables.numbers.push_back(table.position);
  }
  tables.starts.push_back(tier.rows());
  return tables;
}

/// The same for the tier of another layout.
TierTables Store::tables_in(const Layout& layout, const FastTier& tier) {
  TierTables tables;
  for (std::size_t i = 0; i < layout.places.size(); ++i) {
    if (layout.places[i].tier != &tier) continue;
    tables.starts.push_back(layout.places[i].first_row.value);
    tables.numbers.push_back(static_cast<std::uint32_t>(i));
  }
  tables.starts.push_back(tier.rows());
  return tables;
}

/// The planned policies of a layout's tiers; none if no planned policy decides.
std::vector<std::unique_ptr<EvictionPolicy>> Store::make_planned(const Layout& layout) const {
  std::vector<std::unique_ptr<EvictionPolicy>> made;
  if (planning_ == nullptr) return made;
  const bool is_paused = !planning_->parked.empty();
  const bool runs = std::any_of(tiers_.begin(), tiers_.end(),
                                [](auto& tier) { return tier->planner() != nullptr; });
  if (!is_paused && !runs) return made;
  for (auto& tier : layout.tiers) {
    made.push_back(planning_->policy.make(tier->eviction_config(), tables_in(layout, *tier)));
  }
  return made;
}

/// Under an ExclusiveGuard, of a new layout: its planned policies begin, or their pause goes on.
void Store::adopt_planned(std::vector<std::unique_ptr<EvictionPolicy>> planned, bool is_paused) {
  if (planned.empty()) return;
  if (is_paused) {
    planning_->parked = std::move(planned);
  } else {
    swap_policies(std::move(planned), planning_->policy.simple);
  }
}

/// Under an ExclusiveGuard: gives each tier its policy. Returns the former policies, empty.
std::vector<std::unique_ptr<EvictionPolicy>> Store::swap_policies(
    std::vector<std::unique_ptr<EvictionPolicy>> policies, const std::string& simple) {
  for (std::size_t i = 0; i < tiers_.size(); ++i) {
    std::lock_guard lock(tiers_[i]->mutex());
    policies[i] = tiers_[i]->use_policy(std::move(policies[i]), simple);
  }
  return policies;
}

std::vector<std::unique_ptr<EvictionPolicy>> Store::make_simple(const std::string& name) {
  std::vector<std::unique_ptr<EvictionPolicy>> policies;
  for (auto& tier : tiers_) {
    policies.push_back(make_eviction_policy(name, tier->eviction_config()));
  }
  return policies;
}

void Store::use_policy(const std::string& name) {
  check_fork();
  make_eviction_policy(name, {.capacity = 1, .slots = 1});
  std::lock_guard changing(use_policy_);
  stop_planning();
  ExclusiveGuard exclusive(epochs_);
  epochs_.check_open();
  swap_policies(make_simple(name), name);
  policy_ = name;
  if (planning_ == nullptr) return;
  planning_.reset();
  set_access_rings(AccessReader::planner, 0);
}

void Store::use_policy(const PlannedPolicy& policy) {
  check_fork();
  make_eviction_policy(policy.simple, {.capacity = 1, .slots = 1});
  std::lock_guard changing(use_policy_);
  without_planner([&] {
    ensure_layout();
    ExclusiveGuard exclusive(epochs_);
    epochs_.check_open();
    auto planning = std::make_unique<Planning>();
    planning->policy = policy;
    planning->stats.state = "running";
    std::vector<std::unique_ptr<EvictionPolicy>> made;
    for (auto& tier : tiers_) {
      made.push_back(policy.make(tier->eviction_config(), tables_of(*tier)));
    }
    swap_policies(std::move(made), policy.simple);
    policy_ = policy.simple;
    planning->drained = lookups();
    planning->cost_benefit.begin({planning->drained, 0, 0});
    planning_ = std::move(planning);
    set_access_rings(AccessReader::planner, kRingWords);
  });
}

void Store::start_planning() {
  if (planning_ == nullptr || !planning_->policy.in_background) return;
  if (planning_->stats.state == "failed") return;
  planning_->stopping = false;
  planner_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tieralloc-plan");
    pin_this_thread(options_.cpus);
    yield_to_serving();
    const auto id = static_cast<id_t>(syscall(SYS_gettid));
    setpriority(PRIO_PROCESS, id, std::max(kNice, getpriority(PRIO_PROCESS, id)));
    plan_in_background();
  });
}

void Store::stop_planning() {
  if (!planner_.joinable()) return;
  {
    std::lock_guard lock(planning_->mutex);
    planning_->stopping = true;
  }
  planning_->wake.notify_all();
  planner_.join();
}

/// Calls `act` while the planning thread is stopped; also if it fails, planning goes on.
void Store::without_planner(const std::function<void()>& act) {
  stop_planning();
  try {
    act();
  } catch (...) {
    start_planning();
    throw;
  }
  start_planning();
}

void Store::plan_in_background() {
  Planning& planning = *planning_;
  Micros wait = kMinWait;
  auto began = Clock::now();
  for (;;) {
    {
      std::unique_lock lock(planning.mutex);
      if (planning.wake.wait_for(lock, wait, [&] { return planning.stopping; })) return;
    }
    std::lock_guard stepping(planning.step);
    try {
      if (planning.pause_left != 0) {
        wait = end_pause() ? kMinWait : kPauseWait;
        continue;
      }
      const std::size_t accesses = plan(false);
      const auto now = Clock::now();
      const double seconds = std::chrono::duration<double>(now - std::exchange(began, now)).count();
      wait = next_wait(wait, accesses, seconds);
      if (planning.policy.pauses) check_cost_benefit();
    } catch (const std::exception& error) {
      if (epochs_.is_closed()) return;
      fail_planning(error.what());
      return;
    }
  }
}

std::size_t Store::step_policy() {
  check_fork();
  std::lock_guard changing(use_policy_);
  if (planning_ == nullptr || planning_->policy.in_background) {
    throw std::invalid_argument(
        "step_policy: expected a planned policy without a background thread");
  }
  return plan(true);
}

/// One step of all planners. Returns the number of accesses observed. If `waits`, waits for the
/// prefetches.
std::size_t Store::plan(bool waits) {
  Planning& planning = *planning_;
  std::optional<ReadGuard> guard;
  enter(guard);
  const auto for_planners = [&](auto act) {
    for (auto& tier : tiers_) {
      if (tier->planner() != nullptr) act(*tier);
    }
  };
  bool more = false;
  std::size_t observed = 0;
  double began = thread_seconds();
  planning.prefetches.clear();  // of a step that failed
  do {
    more = false;
    for_planners([&](FastTier& tier) { more = tier.collect() || more; });
    const std::uint64_t drained = lookups();
    const AccessSamples samples = drain_rings(AccessReader::planner);
    observe(samples);
    for_planners([](FastTier& tier) { tier.evaluate(); });
    for_planners([](FastTier& tier) { tier.apply(); });
    const double now = thread_seconds();
    count_step(samples.rows.size(), drained, now - std::exchange(began, now));
    observed += samples.rows.size();
    take_prefetches(planning.prefetches);
  } while (more && !is_stopping_planning());
  if (planning.prefetches.empty()) return observed;
  if (!waits) {
    prefetch_queue_.push(planning.prefetches);
  } else if (pool_->in_place()) {
    promoter_.prefetch(planning.prefetches);
  } else {
    fetcher_.prefetch(planning.prefetches);
  }
  planning.prefetches.clear();
  return observed;
}

bool Store::is_stopping_planning() {
  std::lock_guard lock(planning_->mutex);
  return planning_->stopping;
}

/// Passes accesses to the planners of their tiers.
void Store::observe(const AccessSamples& samples) {
  const std::span<const RowId> rows(samples.rows);
  std::size_t at = 0;
  std::vector<RowId> own;
  const RowId num_rows = rows_end().value;
  for (const std::uint32_t length : samples.lengths) {
    for (auto& tier : tiers_) {
      if (tier->planner() == nullptr) continue;
      if (tier->rows() == num_rows) {  // the only tier: its rows have the numbers of the store
        tier->planner()->observe_sample(rows, at, length);
        continue;
      }
      own.clear();
      for (const RowId row : rows.subspan(at, length)) {
        const RowPlace place = place_of(StoreRow{row});
        if (place.tier == tier.get()) own.push_back(place.row.value);
      }
      tier->planner()->observe_sample(own, 0, own.size());
    }
    at += length;
  }
}

RowPlace Store::place_of(StoreRow row) const {
  const auto after = std::upper_bound(
      tables_.begin(), tables_.end(), row,
      [](StoreRow wanted, const Table& table) { return wanted < table.first_store_row; });
  const Table& table = *(after - 1);
  return {table.tier, table.first_tier_row + (row - table.first_store_row)};
}

void Store::take_prefetches(std::vector<RowPlace>& places) {
  std::vector<RowId> rows;
  for (auto& tier : tiers_) {
    if (tier->planner() == nullptr) continue;
    rows.clear();
    tier->planner()->take_prefetches(rows);
    check_prefetches(rows, tier->rows());
    if (!uses_copies()) continue;
    for (const RowId row : rows) {
      if (tier->find(TierRow{row}) == kAbsent) places.push_back({tier.get(), TierRow{row}});
    }
  }
}

void Store::count_step(std::size_t accesses, std::uint64_t drained, double seconds) {
  Planning& planning = *planning_;
  const std::uint64_t before = std::exchange(planning.drained, drained);
  if (accesses == 0) return;
  const std::uint64_t now = lookups();
  std::lock_guard lock(planning.mutex);
  PolicyStats& stats = planning.stats;
  ++stats.steps;
  stats.accesses_observed += accesses;
  stats.cpu_seconds += seconds;
  if (before > drained || drained > now) return;  // counters were reset
  planning.lag_sum += static_cast<double>(accesses) *
                      (static_cast<double>(now) - static_cast<double>(before + drained) / 2);
  stats.policy_lag.mean = planning.lag_sum / static_cast<double>(stats.accesses_observed);
  stats.policy_lag.max = std::max(stats.policy_lag.max, now - before);
}

/// With a ReadGuard.
std::vector<LearnedStats> Store::learned_stats() const {
  std::vector<LearnedStats> stats;
  for (auto& tier : tiers_) {
    const auto* learned = dynamic_cast<const LearnedPolicy*>(tier->planner());
    if (learned != nullptr) stats.push_back(learned->stats());
  }
  return stats;
}

/// Pauses the policy if it cost more than it saved.
void Store::check_cost_benefit() {
  Planning& planning = *planning_;
  std::uint64_t waited = 0;
  states_.each([&](const CallState& state) { waited += state.counters.waited_ns.get(); });
  const CostBenefit::Usage now{lookups(), static_cast<double>(waited) * 1e-9, thread_seconds()};
  if (!planning.cost_benefit.is_due(now)) return;
  double avoided = 0;
  std::string best;
  {
    std::optional<ReadGuard> guard;
    enter(guard);
    for (const LearnedStats& tier : learned_stats()) {
      const auto [name, share] = tier.avoided();
      best = name;
      avoided = std::max(avoided, share);
    }
  }
  const std::uint64_t pause = planning.cost_benefit.end_window(now, avoided);
  {
    std::lock_guard lock(planning.mutex);
    planning.stats.pauses = planning.cost_benefit.pauses();
    planning.stats.saved_seconds = planning.cost_benefit.saved();
    planning.stats.spent_seconds = planning.cost_benefit.spent();
  }
  if (pause > 0) begin_pause(best.empty() ? planning.policy.simple : best, pause);
}

void Store::begin_pause(const std::string& simple, std::uint64_t lookups) {
  Planning& planning = *planning_;
  {
    ExclusiveGuard exclusive(epochs_);
    if (epochs_.is_closed()) return;
    planning.parked = swap_policies(make_simple(simple), simple);
    set_access_rings(AccessReader::planner, 0);
  }
  planning.pause_left = lookups;
  planning.drained = this->lookups();
  std::lock_guard lock(planning.mutex);
  planning.stats.state = "paused";
  planning.stats.reason = "it saved " + std::to_string(planning.stats.saved_seconds) +
                          " s of waiting in " + std::to_string(planning.stats.spent_seconds) +
                          " s of CPU time";
}

/// True if the pause is over.
bool Store::end_pause() {
  Planning& planning = *planning_;
  const std::uint64_t now = lookups(), before = std::exchange(planning.drained, now);
  const std::uint64_t passed = now >= before ? now - before : now;  // else counters were reset
  planning.pause_left -= std::min(planning.pause_left, passed);
  if (planning.pause_left > 0) return false;
  {
    ExclusiveGuard exclusive(epochs_);
    epochs_.check_open();
    if (planning.parked.size() == tiers_.size()) {
      swap_policies(std::move(planning.parked), planning.policy.simple);
    }
    planning.parked.clear();
    set_access_rings(AccessReader::planner, kRingWords);
  }
  planning.drained = lookups();
  planning.cost_benefit.begin({planning.drained, 0, thread_seconds()});
  std::lock_guard lock(planning.mutex);
  planning.stats.state = "running";
  planning.stats.reason.clear();
  return true;
}

/// Replaces the policy by the simple one permanently.
void Store::fail_planning(const std::string& reason) {
  {
    ExclusiveGuard exclusive(epochs_);
    if (epochs_.is_closed()) return;
    swap_policies(make_simple(planning_->policy.simple), planning_->policy.simple);
    set_access_rings(AccessReader::planner, 0);
  }
  std::lock_guard lock(planning_->mutex);
  planning_->stats.state = "failed";
  planning_->stats.reason = reason;
}

PolicyStats Store::policy_stats() {
  check_fork();
  std::lock_guard changing(use_policy_);
  if (planning_ == nullptr) return {};
  std::optional<ReadGuard> guard;
  enter(guard);
  std::vector<LearnedStats> tiers = learned_stats();
  std::lock_guard lock(planning_->mutex);
  PolicyStats stats = planning_->stats;
  stats.tiers = std::move(tiers);
  return stats;
}

std::vector<std::uint64_t> Store::capacities() {
  check_fork();
  std::optional<ReadGuard> guard;
  enter(guard);
  std::vector<std::uint64_t> capacities;
  for (auto& tier : tiers_) capacities.push_back(tier->capacity());
  return capacities;
}

}  // namespace tieralloc
