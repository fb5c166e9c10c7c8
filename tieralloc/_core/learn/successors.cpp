#include "successors.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "../split_mix.hpp"
#include "fast_log.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kVotes = 2048;        // a power of two: what a sample votes for is no more
constexpr std::size_t kProbes = 8;          // places where a vote may lie
constexpr std::uint32_t kLookedAt = 8;      // rows, to forget one
constexpr std::uint32_t kMostMerit = 16;    // accesses that make a row memorable, at most
constexpr std::uint32_t kMostCounted = 64;  // accesses after which counts are halved
constexpr float kNew = 256;                 // accesses: of two pairs as new, the rarer one goes
constexpr float kLeast = 1e-3f;             // added before logarithms

float log_of_share(float share) {
  return fast_log2(kLeast + share);
}

float log_of_time(std::uint32_t accesses) {
  return fast_log2(1 + static_cast<float>(accesses));
}

}  // namespace

std::vector<std::string> candidate_feature_names() {
  return {
      // How often it came after the last row accessed and before it; both as shares of the accesses
      // to that row, log2(0.001 + share): the former alone, and together.
      "after", "before", "after_share", "share",
      // Logs: accesses since it last did; accesses to the last row.
      "pair_age", "owner_count",
      // Rows of the sample that have voted for it; log2(0.001 + the sum of their shares), and of
      // the greatest; log of the accesses since the first of them.
      "voters", "confidence", "strongest", "vote_age",
      // Logs: accesses of the sample; accesses since the last row was accessed before.
      "position", "owner_gap"};
}

Successors::Successors(std::uint32_t capacity)
    : known_(std::max(capacity, 1u)), lists_(capacity), votes_(kVotes) {
  if (capacity == 0) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  candidates_.reserve(kSuccessors);
}

std::size_t Successors::bytes(std::uint32_t capacity) {
  return RowNumbers::bytes(capacity) + capacity * sizeof(List) + kVotes * sizeof(Vote);
}

void Successors::begin_sample() {
  ++sample_;
  position_ = 0;
}

std::span<const Candidate> Successors::observe(RowId row) {
  ++now_;
  const Number number = number_for(row);
  note_pairs(row, number);
  List& list = lists_[number];
  if (++list.count >= kMostCounted) halve(list);
  candidates_.clear();
  for (const Entry& entry : list.entries) {
    if (!entry.is_empty() && entry.last != now_) candidates_.push_back(candidate(list, entry));
  }
  list.last = now_;
  return candidates_;
}

Successors::Number Successors::number_for(RowId row) {
  const Number known = known_.find(row);
  if (known != RowNumbers::kUnknown) return known;
  const Number number = known_.size() < known_.capacity() ? known_.add(row) : forget_one_for(row);
  lists_[number] = List{};
  lists_[number].last = now_;
  return number;
}

Successors::Number Successors::forget_one_for(RowId row) {
  Number worst = hand_;
  const auto merit = [](const List& of) { return std::clamp(of.count, 1u, kMostMerit); };
  for (std::uint32_t i = 0; i < std::min(kLookedAt, known_.capacity()); ++i) {
    const List &list = lists_[hand_], &other = lists_[worst];
    if (std::uint64_t{now_ - list.last} * merit(other) >
        std::uint64_t{now_ - other.last} * merit(list)) {
      worst = hand_;
    }
    hand_ = hand_ + 1 == known_.capacity() ? 0 : hand_ + 1;
  }
  known_.replace(worst, row);
  return worst;
}

/// Counts the row accessed now as beside those before it in the sample.
void Successors::note_pairs(RowId row, Number number) {
  const std::uint32_t pairs = std::min<std::uint32_t>(position_, kPairWindow);
  for (std::uint32_t back = 1; back <= pairs; ++back) {
    const Recent& other = recent_[(position_ - back) % kPairWindow];
    if (other.row == row || known_.row_of(other.number) != other.row) continue;
    count(lists_[other.number], row, &Entry::after);
    count(lists_[number], other.row, &Entry::before);
  }
  recent_[position_++ % kPairWindow] = {row, number};
}

void Successors::count(List& owner, RowId other, std::uint8_t Entry::* times) {
  Entry& entry = entry_for(owner, other);
  if (entry.*times != std::numeric_limits<std::uint8_t>::max()) ++(entry.*times);
  entry.last = now_;
}

/// The entry of another row, or else, emptied for it, that which came beside the fewest times for
/// how long ago that was.
Successors::Entry& Successors::entry_for(List& list, RowId other) {
  Entry* worst = nullptr;
  float least = std::numeric_limits<float>::max();
  for (Entry& entry : list.entries) {
    if (entry.row() == other) return entry;
    const auto times = static_cast<float>(entry.after + entry.before);
    const float worth = times / (static_cast<float>(now_ - entry.last) + kNew);
    if (worth < least) {
      worst = &entry;
      least = worth;
    }
  }
  *worst = Entry{.row_low = static_cast<std::uint32_t>(other),
                 .row_high = static_cast<std::uint16_t>(other >> 32)};
  return *worst;
}

void Successors::halve(List& list) {
  list.count /= 2;
  for (Entry& entry : list.entries) {
    entry.after /= 2;
    entry.before /= 2;
  }
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

Candidate Successors::candidate(const List& owner, const Entry& entry) {
  const auto accesses = static_cast<float>(owner.count);
  const float after = entry.after / accesses;
  const float share = (entry.after + entry.before) / accesses;
  Vote& vote = vote_for(entry.row());
  ++vote.voters;
  vote.confidence += share;
  vote.strongest = std::max(vote.strongest, share);
  return {
      entry.row(),
      {static_cast<float>(entry.after), static_cast<float>(entry.before), log_of_share(after),
       log_of_share(share), log_of_time(now_ - entry.last), fast_log2(1 + accesses),
       static_cast<float>(vote.voters), log_of_share(vote.confidence), log_of_share(vote.strongest),
       log_of_time(now_ - vote.first), log_of_time(position_), log_of_time(now_ - owner.last)}};
}

}  // namespace tieralloc
