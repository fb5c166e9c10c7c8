#include "successors.hpp"

#include <algorithm>

#include "../split_mix.hpp"
#include "fast_log.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kVotes = 2048;  // a power of two: what a sample votes for is no more
constexpr std::size_t kProbes = 8;    // places where a vote may lie
constexpr float kNew = 256;           // accesses: of two rows as new, the rarer one is left out
constexpr float kLeast = 1e-3f;       // added before logarithms

/// Rows beside an access at most: itself, those of its sample, and those of earlier ones.
constexpr std::size_t kMostBeside = 1 + kPairWindow + 2 * kPairWindow * kOccurrences;
constexpr std::size_t kPlaces = 2048;  // a power of two
static_assert(kPlaces > kMostBeside);

float log_of_share(float share) {
  return fast_log2(kLeast + share);
}

float log_of_time(std::uint64_t accesses) {
  return fast_log2(1 + static_cast<float>(accesses));
}

}  // namespace

std::vector<std::string> candidate_feature_names() {
  return {
      // How often it came after the row accessed now and before it, of the earlier accesses to that
      // which were looked at; both as shares of these, log2(0.001 + share): the former alone, and
      // together.
      "after", "before", "after_share", "share",
      // Logs: accesses since the last of these that it came beside; how many were looked at;
      // accesses since the latest of them, and since the earliest.
      "pair_age", "owner_count", "owner_gap", "owner_span",
      // Rows of the sample that have voted for it; log2(0.001 + the sum of their shares), and of
      // the greatest; log of the accesses since the first of them.
      "voters", "confidence", "strongest", "vote_age",
      // Log: accesses of the sample.
      "position"};
}

Successors::Successors(std::uint32_t capacity) : log_(capacity), places_(kPlaces), votes_(kVotes) {
  beside_.reserve(kMostBeside);
  order_.reserve(kMostBeside);
  candidates_.reserve(kSuccessors);
}

std::size_t Successors::bytes(std::uint32_t capacity) {
  return SampleLog::bytes(capacity) + kVotes * sizeof(Vote) + kPlaces * sizeof(Place) +
         kMostBeside * (sizeof(Beside) + sizeof(std::uint32_t));
}

void Successors::begin_sample() {
  log_.begin_sample();
  ++sample_;
  position_ = 0;
}

void Successors::learn(RowId row) {
  log_.append(row);
  ++now_;
  ++position_;
}

std::span<const Candidate> Successors::observe(RowId row) {
  learn(row);
  beside_.clear();
  exclude_seen();
  const Owner owner = look_back();
  keep_best();
  candidates_.clear();
  for (const std::uint32_t i : order_) candidates_.push_back(candidate(owner, beside_[i]));
  return candidates_;
}

/// The row itself, and what it was just seen beside.
void Successors::exclude_seen() {
  const Age window = std::min<Age>(position_ - 1, kPairWindow);
  for (Age age = 0; age <= window && age < log_.size(); ++age) beside(log_.row(age), age);
  excluded_ = beside_.size();
}

Successors::Owner Successors::look_back() {
  std::uint32_t count = 0;
  Age first = 0, last = 0;
  log_.for_each_earlier([&](Age age) {
    if (age < position_) return true;  // of this sample
    if (count == 0) first = age;
    last = age;
    gather_beside(age);
    return ++count < kOccurrences;
  });
  return {static_cast<float>(count), log_of_time(count), log_of_time(first), log_of_time(last),
          log_of_time(position_)};
}

/// Counts what came beside an earlier access to the row, in its sample.
void Successors::gather_beside(Age age) {
  const Age oldest = std::min<Age>(age + kPairWindow, log_.size() - 1);
  for (Age at = age; at < oldest && !log_.begins_sample(at); ++at) {
    ++beside(log_.row(at + 1), age).before;
  }
  const Age latest = age - std::min<Age>(age, kPairWindow);
  for (Age at = age; at > latest && !log_.begins_sample(at - 1); --at) {
    ++beside(log_.row(at - 1), age).after;
  }
}

Successors::Beside& Successors::beside(RowId row, Age age) {
  for (std::size_t i = SplitMix64::mix(row) % kPlaces;; i = (i + 1) % kPlaces) {
    Place& place = places_[i];
    if (place.access != now_) {
      place = {now_, static_cast<std::uint32_t>(beside_.size())};
      return beside_.emplace_back(row, age);
    }
    if (beside_[place.at].row == row) return beside_[place.at];
  }
}

/// Of the candidates, those that came the most times for how long ago that was.
void Successors::keep_best() {
  order_.clear();
  for (std::size_t i = excluded_; i < beside_.size(); ++i) {
    order_.push_back(static_cast<std::uint32_t>(i));
  }
  if (order_.size() <= kSuccessors) return;
  const auto worth = [&](std::uint32_t i) {
    return static_cast<float>(beside_[i].times()) / (static_cast<float>(beside_[i].age) + kNew);
  };
  const auto end_of_best = order_.begin() + kSuccessors;
  std::nth_element(order_.begin(), end_of_best - 1, order_.end(),
                   [&](std::uint32_t a, std::uint32_t b) {
                     return worth(a) > worth(b) || (worth(a) == worth(b) && a < b);
                   });
  order_.erase(end_of_best, order_.end());
  std::sort(order_.begin(), order_.end());
}

Successors::Vote& Successors::vote_for(RowId row) {
  const std::size_t home = SplitMix64::mix(row) % kVotes;
  Vote* found = &votes_[home];
  for (std::size_t i = 0; i < kProbes; ++i) {
    Vote& vote = votes_[(home + i) % kVotes];
    if (vote.sample == sample_ && vote.row != row) continue;
    found = &vote;
    break;
  }
  if (found->sample != sample_ || found->row != row) {
    *found = Vote{.row = row, .sample = sample_, .first = now_};
  }
  return *found;
}

Candidate Successors::candidate(const Owner& owner, const Beside& beside) {
  const auto after = static_cast<float>(beside.after);
  const auto before = static_cast<float>(beside.before);
  const float share = (after + before) / owner.accesses;
  Vote& vote = vote_for(beside.row);
  ++vote.voters;
  vote.confidence += share;
  vote.strongest = std::max(vote.strongest, share);
  return {beside.row,
          {after, before, log_of_share(after / owner.accesses), log_of_share(share),
           log_of_time(beside.age), owner.count, owner.gap, owner.span,
           static_cast<float>(vote.voters), log_of_share(vote.confidence),
           log_of_share(vote.strongest), log_of_time(now_ - vote.first), owner.position}};
}

}  // namespace tieralloc
