#include "guard.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tieralloc {
namespace {

GuardOptions checked(const GuardOptions& options) {
  if (options.capacity < 1) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  if (options.policies.empty()) {
    throw std::invalid_argument("expected at least one policy to compare with, got none");
  }
  if (options.shadow_rows < 1) {
    throw std::invalid_argument("shadow_rows is 0, expected at least 1");
  }
  if (!(options.half_life >= 1)) {
    throw std::invalid_argument("half_life is " + std::to_string(options.half_life) +
                                ", expected at least 1 access");
  }
  if (options.scouting < 1) {
    throw std::invalid_argument("scouting is 0, expected at least 1 access");
  }
  if (!(options.margin >= 0)) {
    throw std::invalid_argument("margin is " + std::to_string(options.margin) +
                                ", expected at least 0");
  }
  if (!(options.patience >= 0)) {
    throw std::invalid_argument("patience is " + std::to_string(options.patience) +
                                ", expected at least 0 misses");
  }
  if (!(options.changeover >= 1)) {
    throw std::invalid_argument("changeover is " + std::to_string(options.changeover) +
                                ", expected at least 1");
  }
  return options;
}

}  // namespace

Guard::Guard(const GuardOptions& options)
    : options_(checked(options)),
      learned_(options_.policies.size()),
      sample_(options_.capacity, options_.shadow_rows, options_.seed),
      decay_(std::exp2(-1 / options_.half_life)),
      misses_(learned_ + (options_.ahead ? 2 : 1)),
      missed_(misses_.size()),
      contest_(misses_.size(), learned_),
      scout_(options_.scouting) {
  const auto rows =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(options_.shadow_rows, options_.capacity));
  for (const std::string& policy : options_.policies) {
    shadows_.emplace_back(policy, rows, options_.seed);
  }
  while (shadows_.size() < misses_.size()) {
    shadows_.emplace_back(options_.policies.front(), rows, options_.seed);
  }
}

void Guard::observe(std::span<const RowId> rows) {
  for (const RowId row : rows) {
    if (sample_.contains(row)) access(row);
  }
  decide();
}

void Guard::access(RowId row) {
  ++sampled_;
  weight_ = weight_ * decay_ + 1;
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    missed_[i] = shadows_[i].access(row) ? 0 : 1;
    misses_[i] = misses_[i] * decay_ + missed_[i];
  }
  if (learned().evictions() == 0) return;  // until tiers are full all miss alike
  for (std::size_t i = 0; i < shadows_.size(); ++i) note_lead(i);
  if (options_.ahead) scout();
}

void Guard::note_lead(std::size_t shadow) {
  if (shadow > learned_ && !looks_ahead()) return;
  // Reads have their price: fetching ahead has to gain the margin to go on, not only to begin.
  const bool is_rid_of_reads = fetches_ahead() && shadow == learned_;
  const double margin = is_rid_of_reads ? -options_.margin : options_.margin;
  contest_.gain(shadow, missed_[in_charge()] - missed_[shadow] * (1 + margin));
}

void Guard::scout() {
  const bool looked_ahead = looks_ahead();
  scout_.note(fetches_ahead());
  if (looked_ahead == looks_ahead()) return;
  // What the shadow misses that nobody advises says nothing; and what nobody looks at is not begun.
  misses_.back() = misses_[learned_];
  contest_.forget(learned_ + 1);
}

/// The learned policy, be it fetching ahead or not, and the simple one that the tier runs already
/// take turns at no cost; another one takes the rows over and knows little of them.
void Guard::decide() {
  const bool fetched_ahead = fetches_ahead();
  const std::size_t choice_before = choice();
  const bool is_handed_over = contest_.decide([&](std::size_t i) {
    const bool is_running = i >= learned_ || i == running_;
    return options_.patience * (is_running ? 1 : options_.changeover);
  });
  if (!is_handed_over) return;
  if (in_charge() < learned_) running_ = in_charge();
  if (choice() != choice_before) ++switches_;
  if (fetches_ahead() != fetched_ahead) ++ahead_switches_;
}

std::vector<double> Guard::miss_ratios() const {
  std::vector<double> ratios(misses_);
  for (double& ratio : ratios) ratio = weight_ > 0 ? ratio / weight_ : 0;
  return ratios;
}

std::size_t Guard::bytes() const {
  std::size_t bytes = 0;
  for (const ShadowTier& shadow : shadows_) bytes += shadow.bytes();
  return bytes;
}

}  // namespace tieralloc
