#include "policy/selector.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "policy/value_ranking.hpp"

namespace tieralloc {
namespace {

constexpr double kDecay = 1 - 1.0 / 512;  // of miss ratios, a batch
constexpr std::uint32_t kMinRows = 64;    // of a miniature
constexpr double kChangeover = 3;         // times the threshold, for a simple policy

}  // namespace

std::uint32_t Selector::miniature_rows(std::uint32_t capacity, double rate) {
  const auto wanted = static_cast<std::uint32_t>(capacity * rate);
  return std::min(std::clamp(wanted, kMinRows, kMaxRows), capacity);
}

Selector::Selector(RowModel& model, std::uint32_t capacity, std::uint32_t miniature, RowId rows,
                   std::vector<std::string> simple, std::uint64_t seed)
    : simple_(std::move(simple)),
      sample_(capacity, miniature, seed),
      leads_(simple_.size() + 1),
      misses_(simple_.size() + 1),
      missed_(simple_.size() + 1),
      active_(simple_.size()) {
  accesses_.reserve(kBatch);
  const EvictionConfig config{.capacity = miniature, .slots = miniature, .seed = seed};
  for (const std::string& name : simple_) {
    miniatures_.emplace_back(make_eviction_policy(name, config), config, rows);
  }
  miniatures_.emplace_back(std::make_unique<ValueRanking>(config, model, false), config, rows);
}

std::size_t Selector::bytes(std::uint32_t miniature, RowId rows,
                            const std::vector<std::string>& simple) {
  const EvictionConfig config{.capacity = miniature, .slots = miniature};
  std::size_t bytes = Simulator::bytes(config, rows) + ValueRanking::bytes(config, false);
  for (const std::string& name : simple) {
    bytes += Simulator::bytes(config, rows) + eviction_policy_bytes(name, config);
  }
  return bytes;
}

bool Selector::access(RowId row) {
  ++sampled_;
  accesses_.push_back(row);
  if (accesses_.size() < kBatch) return false;
  const bool switches = simulate();
  accesses_.clear();
  return switches;
}

bool Selector::simulate() {
  // Until the miniatures are full all miss alike.
  const bool are_full = miniatures_.back().counts().evictions > 0;
  weight_ = weight_ * kDecay + kBatch;
  for (std::size_t i = 0; i < miniatures_.size(); ++i) {
    missed_[i] = 0;
    for (std::uint32_t access = 0; access < kBatch; ++access) {
      if (!miniatures_[i].access(accesses_[access])) missed_[i] |= 1u << access;
    }
    misses_[i] = misses_[i] * kDecay + std::popcount(missed_[i]);
  }
  bool switches = false;
  for (std::uint32_t access = 0; are_full && access < kBatch; ++access) {
    switches |= decide(access);
  }
  return switches;
}

/// Adds up the leads; the first to reach its threshold becomes active.
bool Selector::decide(std::uint32_t access) {
  const auto missed = [&](std::size_t policy) { return (missed_[policy] >> access & 1) != 0; };
  const double now = missed(active_) ? 1 : 0;
  for (std::size_t i = 0; i < leads_.size(); ++i) {
    if (i == active_) continue;
    const double threshold = kThreshold * (i < simple_.size() ? kChangeover : 1);
    if (!leads_[i].add(now - (missed(i) ? 1 + kMargin : 0), threshold)) continue;
    switch_to(i);
    return true;
  }
  return false;
}

void Selector::switch_to(std::size_t policy) {
  active_ = policy;
  ++switches_;
  for (ChangeDetector& lead : leads_) lead.reset();
}

std::vector<double> Selector::miss_ratios() const {
  std::vector<double> ratios(misses_);
  for (double& ratio : ratios) ratio = weight_ > 0 ? ratio / weight_ : 0;
  return ratios;
}

}  // namespace tieralloc
