#include "domino.hpp"

#include <algorithm>

namespace tieralloc::baselines {
namespace {

const DominoSettings& checked(const DominoSettings& settings) {
  check_setting("degree", settings.degree, 1, 1 << 10);
  check_setting("streams", settings.streams, 1, 1 << 10);
  check_setting("rows", settings.rows, 1, 1u << 31);
  check_setting("followers", settings.followers, 1, 1 << 10);
  check_setting("history", settings.history, 1, 1u << 31);
  return settings;
}

}  // namespace

Domino::Domino(const DominoSettings& settings)
    : settings_(checked(settings)),
      history_(settings.history),
      index_(settings.rows),
      followers_(std::size_t{settings.rows} * settings.followers),
      streams_(settings.streams) {
  for (Stream& stream : streams_) stream.predicted.reserve(settings.degree);
}

std::size_t Domino::bytes() const {
  return sizeof(*this) + history_.size() * sizeof(RowId) + KeyQueue<RowId>::bytes(settings_.rows) +
         followers_.size() * sizeof(Follower) +
         streams_.size() * (sizeof(Stream) + settings_.degree * sizeof(RowId));
}

void Domino::observe(RowId row, Found found, std::vector<RowId>& prefetches) {
  if (found == Found::resident && !settings_.all_accesses) return;
  if (!advance(row, prefetches)) look_up(row, prefetches);
  record(row);
}

/// Advances the stream that predicted the row; false if none did.
bool Domino::advance(RowId row, std::vector<RowId>& prefetches) {
  for (Stream& stream : streams_) {
    auto& predicted = stream.predicted;
    const auto found = std::find(predicted.begin(), predicted.end(), row);
    if (found == predicted.end()) continue;
    predicted.erase(predicted.begin(), found + 1);  // skipped rows are dropped
    replay(stream, prefetches);
    return true;
  }
  return false;
}

void Domino::look_up(RowId row, std::vector<RowId>& prefetches) {
  if (const Follower* of_last = last_ == kNoRow ? nullptr : followers_of(last_)) {
    const auto found =
        std::find_if(of_last, of_last + settings_.followers,
                     [row](const Follower& follower) { return follower.row == row; });
    if (found != of_last + settings_.followers && is_kept(found->at)) {
      Stream& stream =
          *std::min_element(streams_.begin(), streams_.end(),
                            [](const Stream& a, const Stream& b) { return a.used < b.used; });
      stream.predicted.clear();
      stream.next = found->at + 1;
      replay(stream, prefetches);
      return;
    }
  }
  const Follower* followers = followers_of(row);
  if (followers != nullptr && followers->row != kNoRow) prefetches.push_back(followers->row);
}

void Domino::replay(Stream& stream, std::vector<RowId>& prefetches) {
  stream.used = recorded_ + 1;
  while (stream.predicted.size() < settings_.degree && stream.next < recorded_ &&
         is_kept(stream.next)) {
    const RowId row = history_[stream.next++ % history_.size()];
    stream.predicted.push_back(row);
    prefetches.push_back(row);
  }
}

void Domino::record(RowId row) {
  if (last_ != kNoRow) {
    Entry entry = index_.find(last_);
    if (entry != KeyQueue<RowId>::kNoEntry) {
      index_.renew(entry);
    } else {
      if (index_.full()) index_.pop();
      entry = index_.push(last_);
      std::fill_n(&followers_[std::size_t{entry} * settings_.followers], settings_.followers,
                  Follower{});
    }
    Follower* const first = &followers_[std::size_t{entry} * settings_.followers];
    Follower* const last = first + settings_.followers - 1;
    Follower* const place =
        std::find_if(first, last, [row](const Follower& follower) { return follower.row == row; });
    *place = {row, recorded_};
    std::rotate(first, place, place + 1);
  }
  history_[recorded_++ % history_.size()] = row;
  last_ = row;
}

/// Null where the row is not in the index.
Domino::Follower* Domino::followers_of(RowId row) {
  const Entry entry = index_.find(row);
  if (entry == KeyQueue<RowId>::kNoEntry) return nullptr;
  return &followers_[std::size_t{entry} * settings_.followers];
}

}  // namespace tieralloc::baselines
