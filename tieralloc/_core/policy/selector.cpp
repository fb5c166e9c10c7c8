// selector.cpp: replays sampled accesses in the miniatures and compares their misses.
#include "policy/selector.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "policy/value_ranking.hpp"

namespace tieralloc {
namespace {

constexpr double kMissDecay = 1 - 1.0 / 512;  // of misses and accesses, per batch
constexpr std::uint32_t kMinRows = 64;        // of a miniature
constexpr double kSimpleFactor = 3;           // of the threshold, for a simple policy

}  // namespace

std::uint32_t Selector::miniature_rows(std::uint32_t capacity, double rate) {
  const auto wanted = static_cast<std::uint32_t>(capacity * rate);
  return std::min(std::clamp(wanted, kMinRows, kMaxRows), capacity);
}

Selector::Selector(RowModel& model, std::uint32_t capacity, std::uint32_t miniature, RowId rows,
                   std::vector<std::string> simple, std::uint64_t seed)
    : simple_(std::move(simple)),
      sample_(capacity, miniature, seed),
      change_detectors_(simple_.size() + 1),
      misses_(simple_.size() + 1),
      batch_misses_(simple_.size() + 1),
      active_(simple_.size()) {
  batch_.reserve(kBatch);
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

void Selector::add_memory(std::vector<std::span<std::byte>>& parts) {
  parts.push_back(std::as_writable_bytes(std::span(change_detectors_)));
  parts.push_back(std::as_writable_bytes(std::span(misses_)));
  parts.push_back(std::as_writable_bytes(std::span(&accesses_, 1)));
  parts.push_back(std::as_writable_bytes(std::span(&active_, 1)));
}

bool Selector::access(RowId row) {
  ++sampled_;
  batch_.push_back(row);
  if (batch_.size() < kBatch) return false;
  const bool has_switched = simulate();
  batch_.clear();
  return has_switched;
}

/// Simulates the batch in one miniature after another; true if the active policy changed.
bool Selector::simulate() {
  // Until the miniatures are full, all policies miss alike.
  const bool is_full = miniatures_.back().counts().evictions > 0;
  accesses_ = accesses_ * kMissDecay + kBatch;
  for (std::size_t i = 0; i < miniatures_.size(); ++i) {
    batch_misses_[i] = 0;
    for (std::uint32_t access = 0; access < kBatch; ++access) {
      if (!miniatures_[i].access(batch_[access])) batch_misses_[i] |= 1u << access;
    }
    misses_[i] = misses_[i] * kMissDecay + std::popcount(batch_misses_[i]);
  }
  bool has_switched = false;
  for (std::uint32_t access = 0; is_full && access < kBatch; ++access) {
    has_switched |= compare(access);
  }
  return has_switched;
}

/// Updates the change detectors by one access; true if the active policy changed.
bool Selector::compare(std::uint32_t access) {
  const auto is_miss = [&](std::size_t policy) {
    return (batch_misses_[policy] >> access & 1) != 0;
  };
  const double active_misses = is_miss(active_) ? 1 : 0;
  for (std::size_t i = 0; i < change_detectors_.size(); ++i) {
    if (i == active_) continue;
    const double threshold = kThreshold * (i < simple_.size() ? kSimpleFactor : 1);
    const double difference = active_misses - (is_miss(i) ? 1 + kMargin : 0);
    if (!change_detectors_[i].add(difference, threshold)) continue;
    switch_to(i);
    return true;
  }
  return false;
}

void Selector::switch_to(std::size_t policy) {
  active_ = policy;
  ++switches_;
  for (ChangeDetector& detector : change_detectors_) detector.reset();
}

std::vector<double> Selector::miss_ratios() const {
  std::vector<double> ratios(misses_);
  for (double& ratio : ratios) ratio = accesses_ > 0 ? ratio / accesses_ : 0;
  return ratios;
}

}  // namespace tieralloc
