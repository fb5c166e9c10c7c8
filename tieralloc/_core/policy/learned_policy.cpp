// learned_policy.cpp: forwards calls to the ranking or the active simple policy, and switches them.
#include "policy/learned_policy.hpp"

#include <algorithm>
#include <utility>

#include "base/split_mix.hpp"

namespace tieralloc {
namespace {

constexpr std::uint32_t kSlotsPerReserved = 32;  // max reserve: one slot in 32
constexpr float kReserveDecay = 0.98f;           // per step
constexpr std::uint64_t kPublishEvery = 1024;    // accesses

std::unique_ptr<Prefetcher> make_prefetcher(const PolicyModel& model, const EvictionConfig& config,
                                            const LearnedOptions& options,
                                            const PolicyMemory& memory) {
  if (!model.prefetch) return nullptr;
  return std::make_unique<Prefetcher>(model, config.capacity, memory.partners, options);
}

/// Evicts all rows of a policy, calling `visit(slot)` for each.
template <typename Visit>
void drain(EvictionPolicy& policy, Visit visit) {
  for (Slot slot = policy.evict(); slot != kNoSlot; slot = policy.evict()) visit(slot);
}

}  // namespace

std::pair<std::string, double> LearnedStats::avoided() const {
  if (miss_ratios.size() < 2 || miss_ratios.back().second <= 0) return {};
  const auto best =
      std::min_element(miss_ratios.begin(), miss_ratios.end() - 1,
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const double learned = miss_ratios.back().second;
  return {best->first, (best->second - learned) / std::max(best->second, learned)};
}

LearnedPolicy::LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                             const TierTables& tables, const LearnedOptions& options)
    : LearnedPolicy(config, model, tables, options, fit_memory(config, *model, tables, options)) {}

LearnedPolicy::LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                             const TierTables& tables, const LearnedOptions& options,
                             const PolicyMemory& memory)
    : policy_model_(std::move(model)),
      config_(config),
      sizes_(memory),
      bytes_(policy_bytes(config, *policy_model_, tables, options, memory)),
      row_model_(*policy_model_, memory.history, config.capacity),
      prefetcher_(make_prefetcher(*policy_model_, config, options, memory)),
      ranking_(config, row_model_, true, prefetcher_ != nullptr) {
  if (options.selects) {
    selector_ = std::make_unique<Selector>(row_model_, config.capacity, memory.miniature,
                                           tables.starts.back(), simple_policies(), config.seed);
  }
  publish_stats();
}

LearnedPolicy::~LearnedPolicy() = default;

std::size_t LearnedPolicy::bytes(const EvictionConfig& config, const PolicyModel& model,
                                 const TierTables& tables, const LearnedOptions& options) {
  return policy_bytes(config, model, tables, options, fit_memory(config, model, tables, options));
}

void LearnedPolicy::insert(Slot slot, RowId row) {
  ++inserted_;
  if (simple_ == nullptr) {
    ranking_.insert(slot, row);
    return;
  }
  ranking_.clear_reference_bit(slot);
  simple_->insert(slot, row);
}

void LearnedPolicy::insert_prefetched(Slot slot, RowId row) {
  if (simple_ != nullptr) return insert(slot, row);
  ranking_.insert_prefetched(slot, row);
}

void LearnedPolicy::begin_sample() {
  row_model_.begin_sample();
  if (prefetcher_ != nullptr) prefetcher_->begin_sample();
}

Slot LearnedPolicy::evict() {
  return simple_ == nullptr ? ranking_.evict() : simple_->evict();
}

void LearnedPolicy::note_evicted(RowId row) {
  if (simple_ != nullptr) simple_->note_evicted(row);
}

void LearnedPolicy::remove(Slot slot) {
  if (simple_ == nullptr) {
    ranking_.remove(slot);
  } else {
    simple_->remove(slot);
  }
}

void LearnedPolicy::move(Slot from, Slot to) {
  if (simple_ == nullptr) {
    ranking_.move(from, to);
  } else {
    simple_->move(from, to);
  }
}

bool LearnedPolicy::collect(const TierView& tier) {
  return simple_ == nullptr && ranking_.collect(tier);
}

void LearnedPolicy::expect(RowId row) const {
  row_model_.history().prefetch(row);
  if (prefetcher_ != nullptr) prefetcher_->expect(row);
}

void LearnedPolicy::observe(std::span<const RowId> rows) {
  for (const RowId row : rows) {
    const std::uint32_t since = row_model_.observe(row);
    if (prefetcher_ != nullptr) prefetcher_->observe(row, since);
    if (selector_ == nullptr || !selector_->is_sampled(row)) continue;
    is_switch_pending_ |= selector_->access(row);
  }
  observed_ += rows.size();
  if (simple_ != nullptr) accesses_.insert(accesses_.end(), rows.begin(), rows.end());
}

void LearnedPolicy::evaluate(const TierView& tier) {
  if (simple_ != nullptr) return;
  ranking_.evaluate(tier);
  if (prefetcher_ != nullptr) prefetcher_->evaluate(row_model_.history(), tier);
}

void LearnedPolicy::take_prefetches(std::vector<RowId>& rows) {
  if (prefetcher_ != nullptr) prefetcher_->take(rows);
}

void LearnedPolicy::apply(const TierView& tier) {
  if (simple_ == nullptr) {
    ranking_.apply(tier);
  } else {
    notify_simple_of_hits(tier);
  }
  if (prefetcher_ != nullptr) {
    prefetcher_->record_outcomes(ranking_.take_outcomes());
    if (prefetcher_->is_throttled()) ranking_.drain_probation();
  }
  if (is_switch_pending_) switch_policy(tier);
  update_reserve();
  if (observed_ - published_ >= kPublishEvery || is_switch_pending_) publish_stats();
  is_switch_pending_ = false;
}

/// Notifies the simple policy of the hits among the accesses: a hit has set a reference bit.
void LearnedPolicy::notify_simple_of_hits(const TierView& tier) {
  for (const RowId row : accesses_) {
    const Slot slot = tier.find_slot(row);
    if (slot != kNoSlot && ranking_.clear_reference_bit(slot)) simple_->touch({&slot, 1});
  }
  accesses_.clear();
}

/// Moves the rows to the policy that the selector has chosen, the next victim first.
void LearnedPolicy::switch_policy(const TierView& tier) {
  // Within a step the selector may have switched to a simple policy and back.
  if (selector_->is_learned_active() && simple_ == nullptr) return;
  if (selector_->is_learned_active()) {
    ranking_.allocate_slots();
    drain(*simple_, [&](Slot slot) { ranking_.insert(slot, tier.row_in(slot)); });
    simple_.reset();
    return;
  }
  EvictionConfig config = config_;
  config.observer = nullptr;  // the caller notifies the ranking only
  auto next = make_eviction_policy(selector_->name(selector_->active()), config);
  const auto insert_into_next = [&](Slot slot) { next->insert(slot, tier.row_in(slot)); };
  if (simple_ == nullptr) {
    ranking_.release_slots(insert_into_next);
  } else {
    drain(*simple_, insert_into_next);
  }
  simple_ = std::move(next);
}

/// Sets the reserve to the decayed maximum of rows inserted between two steps, within bounds.
void LearnedPolicy::update_reserve() {
  inserted_per_step_ = std::max(inserted_per_step_ * kReserveDecay, static_cast<float>(inserted_));
  inserted_ = 0;
  reserve_ = std::min(static_cast<Slot>(inserted_per_step_), config_.capacity / kSlotsPerReserved);
}

/// Names all that the sizes and the meaning of the memory depend on.
std::string LearnedPolicy::memory_key() {
  const HistoryConfig& history = sizes_.history;
  std::uint64_t hash = row_model_.fingerprint();
  const auto add = [&](std::uint64_t word) { hash = SplitMix64::mix(hash) ^ word; };
  for (const RowId start : history.table_starts) add(start);
  for (const std::uint32_t number : history.table_numbers) add(number);
  for (const std::uint32_t context : history.contexts) add(context);
  for (const std::uint64_t size :
       {std::uint64_t{config_.capacity}, std::uint64_t{history.remembered},
        std::uint64_t{history.samples}, std::uint64_t{sizes_.miniature},
        std::uint64_t{selector_ != nullptr}}) {
    add(size);
  }
  return "learned " + std::to_string(kRowFeaturesVersion) + ' ' +
         std::to_string(SplitMix64::mix(hash));
}

PlannerMemory LearnedPolicy::memory() {
  PlannerMemory memory{.key = memory_key(), .parts = {}};
  row_model_.add_memory(memory.parts);
  if (selector_ != nullptr) selector_->add_memory(memory.parts);
  return memory;
}

void LearnedPolicy::adopt_memory() {
  row_model_.adopt_memory();
  if (simple_ == nullptr) ranking_.forget_curves();
  if (selector_ == nullptr) return;
  selector_->adopt_memory();
  is_switch_pending_ = true;
}

LearnedStats LearnedPolicy::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

void LearnedPolicy::publish_stats() {
  published_ = observed_;
  std::lock_guard lock(stats_mutex_);
  stats_.active = simple_ == nullptr ? "learned" : selector_->name(selector_->active());
  stats_.network = row_model_.network().kind();
  stats_.observed = observed_;
  stats_.evaluations = ranking_.evaluations();
  if (prefetcher_ != nullptr) stats_.prefetching = prefetcher_->stats();
  if (selector_ == nullptr) return;
  stats_.switches = selector_->switches();
  stats_.sampled = selector_->sampled();
  stats_.sample_rate = selector_->sample_rate();
  const std::vector<double> ratios = selector_->miss_ratios();
  stats_.miss_ratios.clear();
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    stats_.miss_ratios.emplace_back(i + 1 < ratios.size() ? selector_->name(i) : "learned",
                                    ratios[i]);
  }
}

MakePolicy make_learned(std::shared_ptr<const PolicyModel> model, const LearnedOptions& options) {
  return
      [model = std::move(model), options](const EvictionConfig& config, const TierTables& tables) {
        return std::make_unique<LearnedPolicy>(config, model, tables, options);
      };
}

}  // namespace tieralloc
