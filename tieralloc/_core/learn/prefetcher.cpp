#include "prefetcher.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "../simulator.hpp"

namespace tieralloc {
namespace {

constexpr RowId kMostRows = RowId{1} << 48;
constexpr std::size_t kMostPending = 4096;    // candidates
constexpr std::uint32_t kMostFetches = 8192;  // whose outcome is waited for
constexpr float kForget = 1.0f / (1 << 16);   // of promises, an access
constexpr float kBenefitOfDoubt = 64;         // promises taken to have been kept

}  // namespace

Prefetcher::Prefetcher(std::uint32_t capacity, float least)
    : successors_(capacity), least_(least), not_asked_for_(kMostFetches) {
  if (!(least > 0 && least <= 1)) {
    throw std::invalid_argument("least chance is " + std::to_string(least) +
                                ", expected above 0 and at most 1");
  }
  pending_.reserve(2 * kMostPending);
}

std::size_t Prefetcher::bytes(std::uint32_t capacity) {
  return Successors::bytes(capacity) + 2 * kMostPending * sizeof(Candidate) +
         KeyQueue<RowId>::bytes(kMostFetches) + kMostFetches * sizeof(Fetch);
}

void Prefetcher::observe(RowId row) {
  ++now_;
  promised_ -= promised_ * kForget;
  kept_ -= kept_ * kForget;
  if (not_asked_for_.take(row)) kept_ += 1;
  while (!fetches_.empty() && fetches_.front().access + kPrefetchHorizon < now_) {
    not_asked_for_.take(fetches_.front().row);
    fetches_.pop_front();
  }
  const auto candidates = successors_.observe(row);
  if (pending_.size() + candidates.size() > 2 * kMostPending) {
    pending_.erase(pending_.begin(), pending_.end() - kMostPending);
  }
  pending_.insert(pending_.end(), candidates.begin(), candidates.end());
}

void Prefetcher::observe(std::span<const RowId> rows,
                         std::span<const std::uint32_t> sample_lengths) {
  check_lengths(rows, sample_lengths);
  check_rows(rows, kMostRows);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) observe(rows[at]);
  }
}

std::span<const Candidate> Prefetcher::take_candidates() {
  taken_.swap(pending_);
  pending_.clear();
  if (taken_.size() > kMostPending) taken_.erase(taken_.begin(), taken_.end() - kMostPending);
  std::stable_sort(taken_.begin(), taken_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.row < b.row; });
  const auto last_of_each =
      std::unique(taken_.rbegin(), taken_.rend(),
                  [](const Candidate& a, const Candidate& b) { return a.row == b.row; });
  taken_.erase(taken_.begin(), last_of_each.base());
  std::erase_if(taken_, [&](const Candidate& it) { return not_asked_for_.contains(it.row); });
  return taken_;
}

void Prefetcher::choose(std::span<const RowId> candidates, std::span<const float> scores,
                        std::vector<RowId>& rows) {
  const float least = least_ / trust();
  order_.clear();
  for (std::uint32_t i = 0; i < candidates.size(); ++i) {
    if (scores[i] >= least) order_.push_back(i);
  }
  std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && candidates[a] < candidates[b]);
  });
  for (const std::uint32_t i : order_) {
    if (not_asked_for_.full()) break;
    rows.push_back(candidates[i]);
    not_asked_for_.push(candidates[i]);
    fetches_.push_back({candidates[i], now_});
    promised_ += scores[i];
  }
}

float Prefetcher::trust() const {
  return std::min(1.0f, (kept_ + kBenefitOfDoubt) / (promised_ + kBenefitOfDoubt));
}

void write_features(const RowHistory& history, std::span<const Candidate> candidates,
                    float* features) {
  for (const Candidate& candidate : candidates) {
    history.write_features({&candidate.row, 1}, features);
    std::copy(candidate.features.begin(), candidate.features.end(), features + kRowFeatures);
    features += kAheadFeatures;
  }
}

}  // namespace tieralloc
