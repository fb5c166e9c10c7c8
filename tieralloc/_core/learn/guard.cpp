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
  if (!(options.margin >= 0)) {
    throw std::invalid_argument("margin is " + std::to_string(options.margin) +
                                ", expected at least 0");
  }
  return options;
}

}  // namespace

Guard::Guard(const GuardOptions& options)
    : options_(checked(options)),
      rate_(std::min(
          1.0, static_cast<double>(options_.shadow_rows) / static_cast<double>(options_.capacity))),
      threshold_(rate_ < 1 ? static_cast<std::uint64_t>(std::ldexp(rate_, 64)) : ~std::uint64_t{0}),
      salt_(SplitMix64::mix(options_.seed + 0x9E3779B97F4A7C15u)),
      decay_(std::exp2(-1 / options_.half_life)),
      misses_(options_.policies.size() + 1),
      decides_from_(options_.half_life / 2) {
  const auto rows =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(options_.shadow_rows, options_.capacity));
  for (const std::string& policy : options_.policies) {
    shadows_.emplace_back(policy, rows, options_.seed);
  }
  shadows_.emplace_back(options_.policies.front(), rows, options_.seed);
}

void Guard::observe(std::span<const RowId> rows) {
  for (const RowId row : rows) {
    if (is_sampled(row)) access(row);
  }
  decide();
}

void Guard::access(RowId row) {
  ++sampled_;
  weight_ = weight_ * decay_ + 1;
  for (std::size_t i = 0; i < shadows_.size(); ++i) {
    misses_[i] = misses_[i] * decay_ + (shadows_[i].access(row) ? 0 : 1);
  }
}

/// Of few accesses nothing can be told, so a choice stands for half a half-life at least. The
/// simple policy that is in charge stays so until another one leads by the margin, and so does the
/// learned one, which takes over as soon as it leads.
void Guard::decide() {
  // Until tiers are full all miss alike.
  if (learned().evictions() == 0 || static_cast<double>(sampled_) < decides_from_) return;
  const auto best = static_cast<std::size_t>(std::min_element(misses_.begin(), misses_.end() - 1) -
                                             misses_.begin());
  const double learned_misses = misses_.back();
  const double in_charge = choice_ == kLearned ? learned_misses : misses_[choice_];
  std::size_t choice = choice_;
  if (choice_ != kLearned && learned_misses < misses_[best]) {
    choice = kLearned;
  } else if (in_charge > misses_[best] * (1 + options_.margin)) {
    choice = best;
  }
  if (choice == choice_) return;
  choice_ = choice;
  ++switches_;
  decides_from_ = static_cast<double>(sampled_) + options_.half_life / 2;
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
