#include "scored.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {

ScoredPolicy::ScoredPolicy(const EvictionConfig& config, std::uint32_t candidates,
                           std::uint32_t victims)
    : candidates_(candidates),
      victims_(victims),
      random_(config.seed),
      order_(config.slots, kLists),
      row_in_(config.slots),
      position_(config.slots),
      set_aside_(config.capacity),
      advice_(victims) {
  if (victims < 1 || victims > candidates) {
    throw std::invalid_argument("victims are " + std::to_string(victims) +
                                ", expected at least 1 and at most the " +
                                std::to_string(candidates) + " candidates");
  }
  held_.reserve(config.slots);
}

void ScoredPolicy::set_scorer(RowScorer* scorer) {
  scorer_ = scorer;
  advice_.clear();
}

void ScoredPolicy::set_stand_in(std::unique_ptr<EvictionPolicy> policy) {
  stand_in_ = std::move(policy);
  advice_.clear();
  if (stand_in_ == nullptr) return;
  give_up_prefetched();
  for (Slot slot = order_.front(kOrder); slot != kNoSlot; slot = order_.next(slot)) {
    stand_in_->insert(slot, row_in_[slot]);
  }
}

void ScoredPolicy::insert(Slot slot, RowId row) {
  row_in_[slot] = row;
  set_aside_.note_miss(row);
  hold(slot);
}

void ScoredPolicy::insert_prefetched(Slot slot, RowId row) {
  row_in_[slot] = row;
  order_.push_back(kSetAside, slot);
  const RowId asked_for = set_aside_.add(slot);
  if (asked_for == kNoRow) return;
  order_.erase(static_cast<Slot>(asked_for));
  hold(static_cast<Slot>(asked_for));
}

void ScoredPolicy::hold(Slot slot) {
  order_.push_back(kOrder, slot);
  position_[slot] = static_cast<std::uint32_t>(held_.size());
  held_.push_back(slot);
  if (stand_in_ != nullptr) stand_in_->insert(slot, row_in_[slot]);
}

void ScoredPolicy::touch(std::span<const Slot> slots) {
  for (const Slot slot : slots) {
    if (!order_.contains(slot)) continue;
    order_.erase(slot);
    if (set_aside_.use(slot, row_in_[slot])) {
      hold(slot);
    } else {
      order_.push_back(kOrder, slot);
      withdraw(slot);
      if (stand_in_ != nullptr) stand_in_->touch({&slot, 1});
    }
  }
}

Slot ScoredPolicy::evict() {
  if (set_aside_.is_over() || held_.empty()) {
    const auto oldest = set_aside_.pop_oldest();
    if (oldest == kNoRow) return kNoSlot;
    order_.erase(static_cast<Slot>(oldest));
    return static_cast<Slot>(oldest);
  }
  const Slot victim = choose();
  set_aside_.note_eviction(row_in_[victim]);
  release(victim);
  return victim;
}

/// One that is held, and that the stand-in has forgotten.
Slot ScoredPolicy::choose() {
  if (stand_in_ != nullptr) return stand_in_->evict();
  if (scorer_ != nullptr && advice_.size() == 0) advise();
  return advice_.size() > 0 ? static_cast<Slot>(advice_.pop()) : order_.front(kOrder);
}

void ScoredPolicy::remove(Slot slot) {
  if (set_aside_.drop(slot)) {
    order_.erase(slot);
    return;
  }
  if (stand_in_ != nullptr) stand_in_->remove(slot);
  release(slot);
}

void ScoredPolicy::release(Slot slot) {
  order_.erase(slot);
  withdraw(slot);
  const Slot last = held_.back();
  held_.pop_back();
  if (last == slot) return;
  held_[position_[slot]] = last;
  position_[last] = position_[slot];
}

void ScoredPolicy::move(Slot from, Slot to) {
  order_.move(from, to);
  row_in_[to] = row_in_[from];
  if (set_aside_.drop(from)) {  // the oldest may become the youngest: rows move rarely
    set_aside_.add(to);
    return;
  }
  if (stand_in_ != nullptr) stand_in_->move(from, to);
  withdraw(from);
  position_[to] = position_[from];
  held_[position_[to]] = to;
}

void ScoredPolicy::advise() {
  const auto held = static_cast<std::uint32_t>(held_.size());
  std::vector<Slot> drawn(candidates_);
  for (Slot& slot : drawn) slot = held_[random_.below(held)];
  std::sort(drawn.begin(), drawn.end());
  drawn.erase(std::unique(drawn.begin(), drawn.end()), drawn.end());

  std::vector<RowId> rows(drawn.size());
  std::transform(drawn.begin(), drawn.end(), rows.begin(),
                 [&](Slot slot) { return row_in_[slot]; });
  std::vector<float> scores(drawn.size());
  scorer_->score(rows, scores.data());

  std::vector<Scored> scored(drawn.size());
  for (std::size_t i = 0; i < drawn.size(); ++i) scored[i] = {scores[i], drawn[i]};
  const auto end = scored.begin() + std::min<std::ptrdiff_t>(victims_, std::ssize(scored));
  std::partial_sort(scored.begin(), end, scored.end(), [](const Scored& a, const Scored& b) {
    return a.score < b.score || (a.score == b.score && a.slot < b.slot);
  });
  for (auto next = scored.begin(); next != end; ++next) {
    const RowId slot = next->slot;
    advice_.push({&slot, 1});
  }
}

void ScoredPolicy::withdraw(Slot slot) {
  const RowId advised = slot;
  advice_.withdraw({&advised, 1});
}

}  // namespace tieralloc
