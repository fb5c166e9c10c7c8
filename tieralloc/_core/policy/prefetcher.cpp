#include "policy/prefetcher.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "base/split_mix.hpp"
#include "policy/fast_log.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kBatch = 24;          // candidates
constexpr std::size_t kMaxGathered = 4096;  // candidates of a step, before those of its last access
constexpr std::size_t kRoom = kMaxGathered + CoOccurrence::kPartners;
constexpr float kMinShare = 0.02f;                 // of the row's accesses, for a candidate
constexpr float kForget = 1.0f / (1 << 16);        // of promises, an access
constexpr float kPrior = 64;                       // promises taken to have been kept
constexpr double kMinLoss = 128;                   // misses, before a pause; for a large tier
constexpr double kLossPerRow = 1.0 / 64;           // of its misses until it is full
constexpr double kProof = 4;                       // times as many saved: pauses start short again
constexpr double kScoringCost = 0.0003;            // of a candidate, as a share of a fetch
constexpr std::uint64_t kShortestPause = 1 << 13;  // accesses
constexpr std::uint64_t kLongestPause = 1 << 20;
constexpr std::uint32_t kLearnEvery = 8;  // samples, in a pause

std::size_t recent_size(std::uint32_t capacity) {
  return std::bit_ceil(std::clamp<std::size_t>(capacity, 256, 1 << 16));
}

float log1(float value) {
  return fast_log2(1 + value);
}

}  // namespace

std::vector<std::string> candidate_feature_names() {
  // log2 of the share; log2(1 + value) of the others.
  return {"share", "times", "owner_accesses", "votes", "confidence", "position"};
}

Candidates::Candidates(std::uint32_t remembered) : pairs_(remembered), votes_(kVotes) {}

std::size_t Candidates::bytes(std::uint32_t remembered) {
  return CoOccurrence::bytes(remembered) + kVotes * sizeof(Vote);
}

void Candidates::begin_sample() {
  pairs_.begin_sample();
  ++sample_;
  position_ = 0;
}

Candidates::Vote& Candidates::vote(RowId row, float share) {
  Vote& vote = votes_[SplitMix64::mix(row) % kVotes];
  if (vote.row != row || vote.sample != sample_) {
    vote = {.row = row, .sample = sample_, .found = ~0u};
  }
  ++vote.votes;
  vote.confidence += share;
  return vote;
}

void Candidates::observe(RowId row, std::uint32_t since, std::vector<Candidate>& found) {
  const bool is_cold = since >= kPrefetchHorizon;
  const CoOccurrence::Record& known = pairs_.observe(row, is_cold);
  ++position_;
  if (!is_cold) return;
  const auto accesses = static_cast<float>(known.accesses());
  const auto least = static_cast<std::uint32_t>(std::ceil(kMinShare * accesses));
  for (std::uint32_t partner = 0; partner < known.size(); ++partner) {
    if (known.times(partner) < least) continue;
    const RowId candidate = known.row(partner);
    const auto times = static_cast<float>(known.times(partner));
    const float share = times / accesses;
    Vote& votes = vote(candidate, share);
    if (votes.found >= found.size() || found[votes.found].row != candidate) {
      votes.found = static_cast<std::uint32_t>(found.size());
      found.emplace_back();
    }
    found[votes.found] = {candidate,
                          share,
                          times,
                          accesses,
                          static_cast<float>(votes.votes),
                          votes.confidence,
                          static_cast<float>(position_)};
  }
}

void Candidates::write_features(const RowHistory& history, std::span<const Candidate> candidates,
                                float* features) {
  for (const Candidate& candidate : candidates) history.prefetch(candidate.row);
  for (const Candidate& candidate : candidates) {
    history.write_features({&candidate.row, 1}, features);
    float* own = features + kRowFeatures;
    *own++ = fast_log2(candidate.share);
    *own++ = log1(candidate.times);
    *own++ = log1(candidate.accesses);
    *own++ = log1(candidate.votes);
    *own++ = fast_log2(candidate.confidence);
    *own++ = log1(candidate.position);
    features += kCandidateFeatures;
  }
}

Prefetcher::Prefetcher(const PolicyModel& model, std::uint32_t capacity, std::uint32_t remembered,
                       const LearnedOptions& options)
    : candidates_(remembered),
      network_(model.prefetch()),
      first_interval_(options.whole_samples ? 1 : 0),
      intervals_(0),
      cost_(options.prefetch_cost),
      features_(kBatch * kCandidateFeatures),
      hazards_(kBatch * network_->outputs()),
      recent_(recent_size(capacity)),
      max_loss_(std::max(kMinLoss, kLossPerRow * capacity)),
      back_off_(kShortestPause, kLongestPause) {
  const auto& intervals = model.prefetch_intervals;
  if (network_->features() != kCandidateFeatures || network_->outputs() != intervals.size()) {
    throw std::invalid_argument("prefetch model: expected " + std::to_string(kCandidateFeatures) +
                                " features and " + std::to_string(intervals.size()) +
                                " outputs, got " + std::to_string(network_->features()) + " and " +
                                std::to_string(network_->outputs()));
  }
  gathered_.reserve(kRoom);
  while (intervals_ < intervals.size() && intervals[intervals_] <= kPrefetchHorizon) ++intervals_;
}

std::size_t Prefetcher::bytes(std::uint32_t capacity, std::uint32_t remembered) {
  return sizeof(Prefetcher) + Candidates::bytes(remembered) +
         recent_size(capacity) * sizeof(Recent) + kRoom * sizeof(Candidate);
}

void Prefetcher::begin_sample() {
  learns_ = paused_ == 0 || ++sample_ % kLearnEvery == 0;
  if (learns_) candidates_.begin_sample();
}

void Prefetcher::observe(RowId row, std::uint32_t since) {
  ++now_;
  promised_ -= promised_ * kForget;
  kept_ -= kept_ * kForget;
  const bool is_paused = paused_ > 0;
  if (is_paused) --paused_;
  if (!learns_) return;
  if (gathered_.size() > kMaxGathered) gathered_.clear();  // too late for these
  const std::size_t before = gathered_.size();
  candidates_.observe(row, since, gathered_);
  if (is_paused) gathered_.resize(before);
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
  stats_.calibration = std::min(1.0f, (kept_ + kPrior) / (promised_ + kPrior));
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

/// Of a use that counts. The first interval is the rest of the sample: a row that is not resident
/// after a whole one was not used in it.
float Prefetcher::chance(const float* hazards) const {
  float left = 1;
  for (std::uint32_t i = first_interval_; i < intervals_; ++i) left *= 1 - hazards[i];
  return 1 - left;
}

void Prefetcher::choose(RowId row, float chance) {
  const std::uint64_t hash = SplitMix64::mix(row);
  recent_[hash & (recent_.size() - 1)] = {static_cast<std::uint32_t>(hash >> 32), now_};
  chosen_.push_back(row);
  promised_ += chance;
  ++stats_.chosen;
  spent_ += cost_;
}

void Prefetcher::take(std::vector<RowId>& rows) {
  rows.insert(rows.end(), chosen_.begin(), chosen_.end());
  chosen_.clear();
}

bool Prefetcher::note(const PrefetchOutcomes& outcomes) {
  kept_ += static_cast<float>(outcomes.used);
  stats_.used += outcomes.used;
  stats_.displaced += outcomes.displaced;
  const double gain = outcomes.used - outcomes.displaced - std::exchange(spent_, 0);
  stats_.is_throttled = paused_ > 0;
  if (stats_.is_throttled) return false;
  gained_ = std::min(gained_ + gain, kProof * max_loss_);
  if (gained_ >= kProof * max_loss_) back_off_.succeed();
  if (!loss_.add(-gain, max_loss_)) return false;
  loss_.reset();
  gained_ = 0;
  paused_ = back_off_.fail();
  ++stats_.throttles;
  return true;
}

}  // namespace tieralloc
