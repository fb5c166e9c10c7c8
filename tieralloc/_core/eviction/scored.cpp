#include "scored.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tieralloc {

ScoredPolicy::ScoredPolicy(const EvictionConfig& config, std::uint32_t candidates,
                           std::uint32_t victims)
    : candidates_(candidates),
      victims_(victims),
      random_(config.seed),
      order_(config.slots, kLists),
      row_in_(config.slots),
      position_(config.slots),
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

void ScoredPolicy::insert(Slot slot, RowId row) {
  order_.push_back(kOrder, slot);
  row_in_[slot] = row;
  position_[slot] = static_cast<std::uint32_t>(held_.size());
  held_.push_back(slot);
}

void ScoredPolicy::touch(std::span<const Slot> slots) {
  for (const Slot slot : slots) {
    if (!order_.contains(slot)) continue;
    order_.erase(slot);
    order_.push_back(kOrder, slot);
    withdraw(slot);
  }
}

Slot ScoredPolicy::evict() {
  if (held_.empty()) return kNoSlot;
  if (scorer_ != nullptr && advice_.size() == 0) advise();
  const Slot victim = advice_.size() > 0 ? static_cast<Slot>(advice_.pop()) : order_.front(kOrder);
  remove(victim);
  return victim;
}

void ScoredPolicy::remove(Slot slot) {
  withdraw(slot);
  order_.erase(slot);
  const Slot last = held_.back();
  held_.pop_back();
  if (last == slot) return;
  held_[position_[slot]] = last;
  position_[last] = position_[slot];
}

void ScoredPolicy::move(Slot from, Slot to) {
  withdraw(from);
  order_.move(from, to);
  row_in_[to] = row_in_[from];
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
