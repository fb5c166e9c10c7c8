// candidates.cpp: turns the partners of an accessed row into candidates.
#include "policy/candidates.hpp"

#include <cmath>

#include "base/split_mix.hpp"
#include "policy/fast_log.hpp"

namespace tieralloc {
namespace {

constexpr float kMinShare = 0.02f;  // of the accessed row's accesses

}  // namespace

std::vector<std::string> candidate_feature_names() {
  // log2 of share and confidence; log2(1 + value) of the others. "votes" is the support.
  return {"share", "times", "owner_accesses", "votes", "confidence", "position"};
}

Candidates::Candidates(std::uint32_t remembered) : pairs_(remembered), supports_(kSupportPlaces) {}

std::size_t Candidates::bytes(std::uint32_t remembered) {
  return CoOccurrence::bytes(remembered) + kSupportPlaces * sizeof(Support);
}

void Candidates::begin_sample() {
  pairs_.begin_sample();
  ++sample_;
  position_ = 0;
}

Candidates::Support& Candidates::add_support(RowId row, float share) {
  Support& support = supports_[SplitMix64::mix(row) % kSupportPlaces];
  if (support.row != row || support.sample != sample_) {
    support = {.row = row, .sample = sample_, .place = ~0u};
  }
  ++support.rows;
  support.confidence += share;
  return support;
}

void Candidates::observe(RowId row, std::uint32_t since, std::vector<Candidate>& candidates) {
  const bool is_cold = since >= kPrefetchHorizon;
  const CoOccurrence::Record& record = pairs_.observe(row, is_cold);
  ++position_;
  if (!is_cold) return;
  const auto accesses = static_cast<float>(record.accesses());
  const auto min_times = static_cast<std::uint32_t>(std::ceil(kMinShare * accesses));
  for (std::uint32_t i = 0; i < record.size(); ++i) {
    if (record.times(i) < min_times) continue;
    const RowId partner = record.row(i);
    const auto times = static_cast<float>(record.times(i));
    const float share = times / accesses;
    Support& support = add_support(partner, share);
    if (support.place >= candidates.size() || candidates[support.place].row != partner) {
      support.place = static_cast<std::uint32_t>(candidates.size());
      candidates.emplace_back();
    }
    candidates[support.place] = {.row = partner,
                                 .share = share,
                                 .times = times,
                                 .accesses = accesses,
                                 .support = static_cast<float>(support.rows),
                                 .confidence = support.confidence,
                                 .position = static_cast<float>(position_)};
  }
}

void Candidates::write_features(const RowHistory& history, std::span<const Candidate> candidates,
                                float* features) {
  for (const Candidate& candidate : candidates) history.prefetch(candidate.row);
  for (const Candidate& candidate : candidates) {
    history.write_features({&candidate.row, 1}, features);
    const Floats4 counts = fast_log2(
        Floats4{candidate.times, candidate.accesses, candidate.support, candidate.position} + 1.0f);
    float* own = features + kRowFeatures;
    *own++ = fast_log2(candidate.share);
    *own++ = counts[0];
    *own++ = counts[1];
    *own++ = counts[2];
    *own++ = fast_log2(candidate.confidence);
    *own++ = counts[3];
    features += kCandidateFeatures;
  }
}

}  // namespace tieralloc
