#include "policy/learned_policy.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace tieralloc {
namespace {

constexpr std::uint32_t kRemembered = 5;  // rows per row of the tier, if there is room
constexpr std::uint32_t kPartners = 32;   // rows whose partners are remembered, likewise
// Bytes for each row of the tier and, if that is more, in all: taken at most unless said.
constexpr std::size_t kRowBytes = 128, kBytes = std::size_t{2} << 20;
constexpr std::size_t kPartnerRowBytes = 384, kPartnerBytes = std::size_t{64} << 20;
constexpr std::uint32_t kMaxReserved = 32;     // one slot of so many is kept free at most
constexpr float kReserveDecay = 0.98f;         // a step
constexpr std::uint64_t kPublishEvery = 1024;  // accesses

std::uint32_t at_most(std::uint64_t rows, std::uint64_t most) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>({rows, most, 1u << 30}));
}

/// What is remembered beside a tier, as much as pays off.
LearnedPolicy::Memory full_memory(const EvictionConfig& config, const PolicyModel& model,
                                  const TierTables& tables) {
  LearnedPolicy::Memory memory;
  HistoryConfig& history = memory.history;
  history.table_starts = tables.starts;
  history.table_numbers = tables.numbers;
  for (const std::uint32_t context : model.contexts) {
    const auto found = std::find(tables.numbers.begin(), tables.numbers.end(), context);
    if (found == tables.numbers.end()) continue;
    history.contexts.push_back(static_cast<std::uint32_t>(found - tables.numbers.begin()));
  }
  const std::uint64_t rows = tables.starts.back() + 1;
  history.remembered = at_most(std::uint64_t{config.capacity} * kRemembered, 2 * rows);
  history.samples = config.capacity / 2;
  // Twice as many places as rows: few of them share a bucket then.
  const std::uint64_t partners = std::uint64_t{config.capacity} * kPartners;
  memory.partners = model.prefetch ? at_most(partners, 2 * rows) : 0;
  memory.miniature = Selector::miniature_rows(config.capacity);
  return memory;
}

std::size_t bytes_of(const EvictionConfig& config, const PolicyModel& model,
                     const TierTables& tables, const LearnedOptions& options,
                     const LearnedPolicy::Memory& memory) {
  std::size_t bytes = sizeof(LearnedPolicy) + RowModel::bytes(memory.history, config.capacity) +
                      ValueRanking::bytes(config, bool{model.prefetch});
  if (model.prefetch) bytes += Prefetcher::bytes(config.capacity, memory.partners);
  if (options.selects) {
    bytes +=
        Selector::bytes(memory.miniature, tables.starts.back(), LearnedPolicy::simple_policies());
    // Either a simple policy or the ranking holds the rows, but for the moment of a switch.
    const std::size_t ranking = ValueRanking::retired_bytes(config);
    std::size_t active = ranking;
    for (const std::string& name : LearnedPolicy::simple_policies()) {
      active = std::max(active, eviction_policy_bytes(name, config));
    }
    bytes += active - ranking;
  }
  return bytes;
}

std::size_t max_bytes(const EvictionConfig& config, const PolicyModel& model,
                      const LearnedOptions& options) {
  if (options.max_bytes != 0) return options.max_bytes;
  const std::size_t partners =
      model.prefetch ? std::max(kPartnerRowBytes * config.capacity, kPartnerBytes) : 0;
  return std::max(kRowBytes * config.capacity, kBytes) + partners;
}

/// As much as fits into the bytes: partners are forgotten first, then miniatures shrink, then rows
/// are forgotten.
LearnedPolicy::Memory fitted_memory(const EvictionConfig& config, const PolicyModel& model,
                                    const TierTables& tables, const LearnedOptions& options) {
  LearnedPolicy::Memory memory = full_memory(config, model, tables);
  const auto bytes = [&] { return bytes_of(config, model, tables, options, memory); };
  const std::size_t most = max_bytes(config, model, options);
  const std::uint32_t miniature = Selector::miniature_rows(config.capacity, Selector::kLeastRate);
  const std::pair<std::uint32_t*, std::uint32_t> shrinks[] = {
      {&memory.partners, 1}, {&memory.miniature, miniature}, {&memory.history.remembered, 1}};
  for (const auto& [rows, fewest] : shrinks) {
    const std::size_t wanted = bytes();
    if (wanted <= most || *rows <= fewest) continue;
    const std::uint32_t more = std::exchange(*rows, fewest) - fewest;
    const std::size_t least = bytes();
    if (least >= most) continue;
    const double share = static_cast<double>(most - least) / static_cast<double>(wanted - least);
    *rows += static_cast<std::uint32_t>(share * more);
    while (*rows > fewest && bytes() > most) --*rows;  // rounding
  }
  if (options.max_bytes != 0 && bytes() > options.max_bytes) {
    throw std::invalid_argument("memory: expected at least " + std::to_string(bytes()) +
                                " for a fast tier of " + std::to_string(config.capacity) +
                                " rows, got " + std::to_string(options.max_bytes));
  }
  return memory;
}

std::unique_ptr<Prefetcher> make_prefetcher(const PolicyModel& model, const EvictionConfig& config,
                                            const LearnedOptions& options,
                                            const LearnedPolicy::Memory& memory) {
  if (!model.prefetch) return nullptr;
  return std::make_unique<Prefetcher>(model, config.capacity, memory.partners, options);
}

}  // namespace

std::pair<std::string, double> LearnedStats::avoided() const {
  if (miss_ratios.size() < 2 || miss_ratios.back().second <= 0) return {};
  const auto best =
      std::min_element(miss_ratios.begin(), miss_ratios.end() - 1,
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  const double now = std::max(best->second, miss_ratios.back().second);
  return {best->first, (best->second - miss_ratios.back().second) / now};
}

LearnedPolicy::LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                             const TierTables& tables, const LearnedOptions& options)
    : LearnedPolicy(config, model, tables, options,
                    fitted_memory(config, *model, tables, options)) {}

LearnedPolicy::LearnedPolicy(const EvictionConfig& config, std::shared_ptr<const PolicyModel> model,
                             const TierTables& tables, const LearnedOptions& options,
                             const Memory& memory)
    : trained_(std::move(model)),
      config_(config),
      bytes_(bytes_of(config, *trained_, tables, options, memory)),
      model_(*trained_, memory.history, config.capacity),
      prefetcher_(make_prefetcher(*trained_, config, options, memory)),
      ranking_(config, model_, true, prefetcher_ != nullptr) {
  if (options.selects) {
    selector_ = std::make_unique<Selector>(model_, config.capacity, memory.miniature,
                                           tables.starts.back(), simple_policies(), config.seed);
  }
  publish_stats();
}

LearnedPolicy::~LearnedPolicy() = default;

std::size_t LearnedPolicy::bytes(const EvictionConfig& config, const PolicyModel& model,
                                 const TierTables& tables, const LearnedOptions& options) {
  return bytes_of(config, model, tables, options, fitted_memory(config, model, tables, options));
}

void LearnedPolicy::insert(Slot slot, RowId row) {
  ++inserted_;
  if (simple_ == nullptr) {
    ranking_.insert(slot, row);
    return;
  }
  ranking_.take_mark(slot);
  simple_->insert(slot, row);
}

void LearnedPolicy::insert_prefetched(Slot slot, RowId row) {
  if (simple_ != nullptr) return insert(slot, row);
  ranking_.insert_prefetched(slot, row);
}

void LearnedPolicy::begin_sample() {
  model_.begin_sample();
  if (prefetcher_ != nullptr) prefetcher_->begin_sample();
}

Slot LearnedPolicy::evict() {
  return simple_ == nullptr ? ranking_.evict() : simple_->evict();
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

void LearnedPolicy::observe(std::span<const RowId> rows) {
  for (const RowId row : rows) {
    const std::uint32_t since = model_.observe(row);
    if (prefetcher_ != nullptr) prefetcher_->observe(row, since);
    if (selector_ != nullptr && selector_->samples(row)) switches_ |= selector_->access(row);
  }
  observed_ += rows.size();
  if (simple_ != nullptr) accesses_.insert(accesses_.end(), rows.begin(), rows.end());
}

void LearnedPolicy::evaluate(const TierView& tier) {
  if (simple_ != nullptr) return;
  ranking_.evaluate(tier);
  if (prefetcher_ != nullptr) prefetcher_->evaluate(model_.history(), tier);
}

void LearnedPolicy::take_prefetches(std::vector<RowId>& rows) {
  if (prefetcher_ != nullptr) prefetcher_->take(rows);
}

void LearnedPolicy::apply(const TierView& tier) {
  if (simple_ == nullptr) {
    ranking_.apply(tier);
  } else {
    touch_simple(tier);
  }
  if (prefetcher_ != nullptr) {
    prefetcher_->note(ranking_.take_outcomes());
    if (prefetcher_->is_paused()) ranking_.empty_probation();
  }
  if (switches_) switch_policy(tier);
  update_reserve();
  if (observed_ - published_ >= kPublishEvery || switches_) publish_stats();
  switches_ = false;
}

/// Passes on the hits among the accesses, which have left marks; a miss leaves none.
void LearnedPolicy::touch_simple(const TierView& tier) {
  for (const RowId row : accesses_) {
    const Slot slot = tier.find_slot(row);
    if (slot != kNoSlot && ranking_.take_mark(slot)) simple_->touch({&slot, 1});
  }
  accesses_.clear();
}

/// Hands the rows over, the next victim first.
void LearnedPolicy::switch_policy(const TierView& tier) {
  // Within a step the selector may have switched there and back.
  if (selector_->learned_is_active() && simple_ == nullptr) return;
  if (selector_->learned_is_active()) {
    ranking_.resume();
    for (Slot slot = simple_->evict(); slot != kNoSlot; slot = simple_->evict()) {
      ranking_.insert(slot, tier.row_in(slot));
    }
    simple_.reset();
    return;
  }
  EvictionConfig config = config_;
  config.observer = nullptr;  // hits come by `touch_simple` alone
  auto next = make_eviction_policy(selector_->name(selector_->active()), config);
  const auto hand_over = [&](Slot slot) { next->insert(slot, tier.row_in(slot)); };
  if (simple_ == nullptr) {
    ranking_.retire(hand_over);
  } else {
    for (Slot slot = simple_->evict(); slot != kNoSlot; slot = simple_->evict()) hand_over(slot);
  }
  simple_ = std::move(next);
}

/// Keeps as many slots free as rows come in between two steps, within bounds.
void LearnedPolicy::update_reserve() {
  inserted_per_step_ = std::max(inserted_per_step_ * kReserveDecay, static_cast<float>(inserted_));
  inserted_ = 0;
  reserve_ = std::min(static_cast<Slot>(inserted_per_step_), config_.capacity / kMaxReserved);
}

LearnedStats LearnedPolicy::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

void LearnedPolicy::publish_stats() {
  published_ = observed_;
  std::lock_guard lock(stats_mutex_);
  stats_.active = simple_ == nullptr ? "learned" : selector_->name(selector_->active());
  stats_.network = model_.network().kind();
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
