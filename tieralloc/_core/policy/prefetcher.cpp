// prefetcher.cpp: scores candidates in batches and keeps account of gains and losses.
#include "policy/prefetcher.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/split_mix.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kBatch = 24;          // candidates
constexpr std::size_t kMaxGathered = 4096;  // candidates of a step, before its last access
constexpr std::size_t kGatheredCapacity = kMaxGathered + CoOccurrence::kPartners;
constexpr float kOutcomeDecay = 1.0f / (1 << 16);  // per access
constexpr float kPriorUses = 64;                   // predicted uses assumed to have come true
constexpr double kMinLoss = 128;                   // min threshold, in misses
constexpr double kLossPerRow = 1.0 / 64;           // threshold per row of the tier, in misses
constexpr double kRecoveryFactor = 4;    // gain, in thresholds, after which the back-off is reset
constexpr double kScoringCost = 0.0003;  // per candidate, as a share of an on-demand fetch
constexpr std::uint64_t kMinThrottle = 1 << 13;  // accesses
constexpr std::uint64_t kMaxThrottle = 1 << 20;
constexpr std::uint32_t kProbeEvery = 8;  // samples, while throttled

std::size_t recent_size(std::uint32_t capacity) {
  return std::bit_ceil(std::clamp<std::size_t>(capacity, 256, 1 << 16));
}

}  // namespace

Prefetcher::Prefetcher(const PolicyModel& model, std::uint32_t capacity, std::uint32_t remembered,
                       const LearnedOptions& options)
    : candidates_(remembered),
      network_(model.prefetch()),
      first_interval_(options.whole_samples ? 1 : 0),
      num_intervals_(0),
      cost_(options.prefetch_cost),
      features_(kBatch * kCandidateFeatures),
      hazards_(kBatch * network_->outputs()),
      recent_(recent_size(capacity)),
      max_loss_(std::max(kMinLoss, kLossPerRow * capacity)),
      back_off_(kMinThrottle, kMaxThrottle) {
  const auto& intervals = model.prefetch_intervals;
  if (network_->features() != kCandidateFeatures || network_->outputs() != intervals.size()) {
    throw std::invalid_argument("prefetch model: expected " + std::to_string(kCandidateFeatures) +
                                " features and " + std::to_string(intervals.size()) +
                                " outputs, got " + std::to_string(network_->features()) + " and " +
                                std::to_string(network_->outputs()));
  }
  gathered_.reserve(kGatheredCapacity);
  while (num_intervals_ < intervals.size() && intervals[num_intervals_] <= kPrefetchHorizon) {
    ++num_intervals_;
  }
}

std::size_t Prefetcher::bytes(std::uint32_t capacity, std::uint32_t remembered) {
  return sizeof(Prefetcher) + Candidates::bytes(remembered) +
         recent_size(capacity) * sizeof(Recent) + kGatheredCapacity * sizeof(Candidate);
}

void Prefetcher::begin_sample() {
  is_observing_ = throttled_ == 0 || ++sample_ % kProbeEvery == 0;
  if (is_observing_) candidates_.begin_sample();
}

void Prefetcher::observe(RowId row, std::uint32_t since) {
  ++now_;
  predicted_uses_ -= predicted_uses_ * kOutcomeDecay;
  actual_uses_ -= actual_uses_ * kOutcomeDecay;
  const bool is_throttled = throttled_ > 0;
  if (is_throttled) --throttled_;
  if (!is_observing_) return;
  if (gathered_.size() > kMaxGathered) gathered_.clear();  // of accesses long ago
  const std::size_t before = gathered_.size();
  candidates_.observe(row, since, gathered_);
  if (is_throttled) gathered_.resize(before);
}

bool Prefetcher::is_recent(RowId row) const {
  const std::uint64_t hash = SplitMix64::mix(row);
  const Recent& recent = recent_[hash & (recent_.size() - 1)];
  return recent.tag == static_cast<std::uint32_t>(hash >> 32) &&
         now_ - recent.at < kPrefetchHorizon;
}

void Prefetcher::evaluate(const RowHistory& history, const TierView& tier) {
  if (gathered_.empty()) return;
  const bool is_free = cost_ <= 0;
  std::erase_if(gathered_, [&](const Candidate& candidate) {
    return (!is_free && is_recent(candidate.row)) || tier.is_resident(candidate.row);
  });
  stats_.calibration = std::min(1.0f, (actual_uses_ + kPriorUses) / (predicted_uses_ + kPriorUses));
  if (is_free) {
    for (const Candidate& candidate : gathered_) choose(candidate.row, 0);
  } else {
    score(history);
  }
  gathered_.clear();
}

void Prefetcher::score(const RowHistory& history) {
  for (std::size_t at = 0; at < gathered_.size(); at += kBatch) {
    const auto batch =
        std::span<const Candidate>(gathered_).subspan(at, std::min(kBatch, gathered_.size() - at));
    Candidates::write_features(history, batch, features_.data());
    network_->evaluate(features_.data(), batch.size(), hazards_.data());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const float chance = this->chance(&hazards_[i * network_->outputs()]);
      if (chance * stats_.calibration >= cost_) choose(batch[i].row, chance);
    }
  }
  stats_.scored += gathered_.size();
  spent_ += kScoringCost * static_cast<double>(gathered_.size());
}

/// The chance of a use in the intervals that count. The first interval is the rest of the sample.
float Prefetcher::chance(const float* hazards) const {
  float left = 1;
  for (std::uint32_t i = first_interval_; i < num_intervals_; ++i) left *= 1 - hazards[i];
  return 1 - left;
}

void Prefetcher::choose(RowId row, float chance) {
  const std::uint64_t hash = SplitMix64::mix(row);
  recent_[hash & (recent_.size() - 1)] = {static_cast<std::uint32_t>(hash >> 32), now_};
  chosen_.push_back(row);
  predicted_uses_ += chance;
  ++stats_.chosen;
  spent_ += cost_;
}

void Prefetcher::take(std::vector<RowId>& rows) {
  rows.insert(rows.end(), chosen_.begin(), chosen_.end());
  chosen_.clear();
}

bool Prefetcher::record_outcomes(const PrefetchOutcomes& outcomes) {
  actual_uses_ += static_cast<float>(outcomes.used);
  stats_.used += outcomes.used;
  stats_.displaced += outcomes.displaced;
  const double gain = outcomes.used - outcomes.displaced - std::exchange(spent_, 0);
  stats_.is_throttled = throttled_ > 0;
  if (stats_.is_throttled) return false;
  net_gain_ = std::min(net_gain_ + gain, kRecoveryFactor * max_loss_);
  if (net_gain_ >= kRecoveryFactor * max_loss_) back_off_.succeed();
  if (!loss_detector_.add(-gain, max_loss_)) return false;
  loss_detector_.reset();
  net_gain_ = 0;
  throttled_ = back_off_.fail();
  ++stats_.throttles;
  return true;
}

}  // namespace tieralloc
