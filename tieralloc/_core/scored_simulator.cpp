#include "scored_simulator.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "learn/prefetch_gate.hpp"
#include "learn/row_sample.hpp"

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

ScoredSimulator::Tier::Tier(std::unique_ptr<ScoredPolicy> made, std::uint32_t capacity,
                            std::uint64_t rows, std::uint64_t count_from, std::uint64_t lag)
    : policy(*made), simulator(std::move(made), capacity, rows, count_from, lag) {}

/// The tier as it would be without any prefetching, or a small part of it.
struct ScoredSimulator::Shadow {
  static constexpr std::uint32_t kMostRows = 2048;

  Shadow(std::uint32_t capacity, std::uint64_t rows, const Guidance& guidance, std::uint64_t seed)
      : sample(capacity, kMostRows, seed),
        tier(make_policy(std::min(capacity, kMostRows), guidance, seed),
             std::min(capacity, kMostRows), rows) {}

  RowSample sample;
  Tier tier;
  PrefetchGate gate;
};

ScoredSimulator::ScoredSimulator(std::uint32_t capacity, RowHistory history, ScoreRows score,
                                 const Guidance& guidance, std::uint64_t count_from,
                                 std::uint64_t guide_from, std::uint64_t seed,
                                 std::optional<Prefetching> prefetching)
    : history_(std::move(history)),
      scorer_(std::make_unique<Scorer>(history_, std::move(score))),
      prefetching_(std::move(prefetching)),
      tier_(make_policy(capacity, guidance, seed), capacity, history_.rows(), count_from,
            prefetching_ ? prefetching_->lag : 0),
      guide_from_(guide_from) {
  if (!prefetching_) return;
  shadow_ = std::make_unique<Shadow>(capacity, history_.rows(), guidance, seed);
}

ScoredSimulator::~ScoredSimulator() = default;

void ScoredSimulator::run(std::span<const RowId> rows,
                          std::span<const std::uint32_t> sample_lengths) {
  history_.check(rows, sample_lengths);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    history_.begin_sample();
    if (prefetching_) prefetching_->prefetcher.begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      if (history_.accesses() == guide_from_) begin_to_guide();
      history_.observe(rows[at]);
      if (prefetching_) {
        access_with_shadow(rows.subspan(at, 1));
      } else {
        tier_.simulator.run(rows.subspan(at, 1));
      }
    }
  }
}

void ScoredSimulator::begin_to_guide() {
  tier_.policy.set_scorer(scorer_.get());
  if (shadow_ != nullptr) shadow_->tier.policy.set_scorer(scorer_.get());
}

void ScoredSimulator::access_with_shadow(std::span<const RowId> row) {
  const bool guided = history_.accesses() > guide_from_;
  if (shadow_->sample.contains(row[0])) {
    const bool missed = !tier_.simulator.is_resident(row[0]);
    const bool missed_without = !shadow_->tier.simulator.is_resident(row[0]);
    shadow_->tier.simulator.run(row);
    if (guided && !shadow_->gate.note(missed, missed_without)) tier_.policy.give_up_prefetched();
  }
  tier_.simulator.run(row);
  prefetching_->prefetcher.observe(row[0]);
  if (guided && shadow_->gate.is_open()) fetch_ahead();
}

void ScoredSimulator::fetch_ahead() {
  candidates_.clear();
  rows_.clear();
  for (const Candidate& candidate : prefetching_->prefetcher.take_candidates()) {
    const RowId row = candidate.row;
    if (tier_.simulator.is_resident(row) || tier_.simulator.in_flight(row)) continue;
    candidates_.push_back(candidate);
    rows_.push_back(row);
  }
  if (rows_.empty()) return;
  features_.resize(rows_.size() * kAheadFeatures);
  scores_.resize(rows_.size());
  write_features(history_, candidates_, features_.data());
  prefetching_->score(features_, scores_);
  ahead_.clear();
  prefetching_->prefetcher.choose(rows_, scores_, ahead_);
  tier_.simulator.prefetch(ahead_);
}

}  // namespace tieralloc
