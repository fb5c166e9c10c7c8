#include "scored_simulator.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {
namespace {

std::unique_ptr<ScoredPolicy> make_policy(std::uint32_t capacity, const Guidance& guidance,
                                          std::uint64_t seed) {
  if (capacity < 1) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  const EvictionConfig config{.capacity = capacity, .slots = capacity, .seed = seed};
  return std::make_unique<ScoredPolicy>(config, guidance.candidates, guidance.victims);
}

void check_finite(std::span<const RowId> rows, std::span<const float> scores) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (std::isfinite(scores[i])) continue;
    throw std::runtime_error("the model's score of row " + std::to_string(rows[i]) + " is " +
                             std::to_string(scores[i]));
  }
}

}  // namespace

/// Scores by the features that a history gives.
class ScoredSimulator::Scorer final : public RowScorer {
 public:
  Scorer(const RowHistory& history, ScoreRows&& score)
      : history_(history), score_(std::move(score)) {}

  void score(std::span<const RowId> rows, float* scores) override {
    features_.resize(rows.size() * kRowFeatures);
    history_.write_features(rows, features_.data());
    score_(features_, {scores, rows.size()});
    check_finite(rows, {scores, rows.size()});
  }

 private:
  const RowHistory& history_;
  ScoreRows score_;
  std::vector<float> features_;
};

ScoredSimulator::ScoredSimulator(std::uint32_t capacity, RowHistory history, ScoreRows score,
                                 const Guidance& guidance, std::uint64_t count_from,
                                 std::uint64_t guide_from, std::uint64_t seed,
                                 std::optional<Prefetching> prefetching)
    : ScoredSimulator(make_policy(capacity, guidance, seed), capacity, std::move(history),
                      std::move(score), count_from, guide_from, std::move(prefetching)) {}

ScoredSimulator::ScoredSimulator(std::unique_ptr<ScoredPolicy> policy, std::uint32_t capacity,
                                 RowHistory&& history, ScoreRows&& score, std::uint64_t count_from,
                                 std::uint64_t guide_from, std::optional<Prefetching>&& prefetching)
    : policy_(*policy),
      history_(std::move(history)),
      scorer_(std::make_unique<Scorer>(history_, std::move(score))),
      prefetching_(std::move(prefetching)),
      simulator_(std::move(policy), capacity, history_.rows(), count_from,
                 prefetching_ ? prefetching_->lag : 0),
      guide_from_(guide_from) {}

ScoredSimulator::~ScoredSimulator() = default;

void ScoredSimulator::run(std::span<const RowId> rows,
                          std::span<const std::uint32_t> sample_lengths) {
  history_.check(rows, sample_lengths);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    history_.begin_sample();
    if (prefetching_) prefetching_->prefetcher.begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      if (history_.accesses() == guide_from_) policy_.set_scorer(scorer_.get());
      history_.observe(rows[at]);
      simulator_.run(rows.subspan(at, 1));
      if (!prefetching_) continue;
      prefetching_->prefetcher.observe(rows[at]);
      if (history_.accesses() > guide_from_) fetch_ahead();
    }
  }
}

void ScoredSimulator::fetch_ahead() {
  candidates_.clear();
  rows_.clear();
  for (const Candidate& candidate : prefetching_->prefetcher.take_candidates()) {
    const RowId row = candidate.row;
    if (simulator_.slot_of(row) != kNoSlot || simulator_.in_flight(row)) continue;
    candidates_.push_back(candidate);
    rows_.push_back(row);
  }
  if (rows_.empty()) return;
  features_.resize(rows_.size() * kAheadFeatures);
  scores_.resize(rows_.size());
  write_features(history_, candidates_, features_.data());
  prefetching_->score(features_, scores_);
  check_finite(rows_, scores_);
  ahead_.clear();
  prefetching_->prefetcher.choose(rows_, scores_, ahead_);
  simulator_.prefetch(ahead_);
}

}  // namespace tieralloc
