#include "value_ranking.hpp"

#include <algorithm>

namespace tieralloc {
namespace {

constexpr std::uint32_t kSweep = 16;  // slots visited per eviction
constexpr std::uint32_t kVisitsPerStep = 4096;
constexpr std::uint32_t kPredictEvery = 8;   // visits
constexpr std::uint32_t kMinBatchShare = 8;  // of the rows of a small tier, which may wait
constexpr int kChecks = 3;                   // victims whose value is looked at again

}  // namespace

ValueRanking::ValueRanking(const EvictionConfig& config, RowModel& model, bool predicts,
                           bool prefetches)
    : model_(model),
      predicts_(predicts),
      slots_(config.slots),
      min_batch_(std::clamp<std::uint32_t>(config.capacity / kMinBatchShare, 1, RowModel::kBatch)),
      marks_(config, 1),
      ranking_(config.slots),
      curves_(config.slots) {
  batch_.reserve(kMaxEvaluated);
  rows_.reserve(kMaxEvaluated);
  evaluated_.reserve(kMaxEvaluated);
  if (!prefetches) return;
  probation_ = std::make_unique<Probation>(config.capacity);
  row_in_.resize(config.slots, kNoRow);
}

std::size_t ValueRanking::bytes(const EvictionConfig& config, bool prefetches) {
  return sizeof(ValueRanking) + Marks::bytes(config.slots) + Ranking::bytes(config.slots) +
         config.slots * sizeof(Curve) +
         kMaxEvaluated * (sizeof(Slot) + sizeof(RowId) + sizeof(Curve)) +
         (prefetches ? Probation::bytes(config.capacity) + config.slots * sizeof(RowId) : 0);
}

void ValueRanking::insert(Slot slot, RowId row) {
  marks_.clear(slot);
  ranking_.move(slot, Ranking::kWaits);
  ++held_;
  if (probation_ == nullptr) return;
  row_in_[slot] = row;
  if (probation_->note_miss(row)) ++outcomes_.displaced;
}

void ValueRanking::insert_prefetched(Slot slot, RowId row) {
  if (probation_ == nullptr) return insert(slot, row);
  marks_.clear(slot);
  ++held_;
  row_in_[slot] = row;
  ranking_.move(slot, Ranking::kYoung);
  while (ranking_.size(Ranking::kYoung) > probation_->young_target()) {
    ranking_.move(ranking_.first(Ranking::kYoung), Ranking::kOld);
  }
}

void ValueRanking::remove(Slot slot) {
  ranking_.move(slot, Ranking::kNotHeld);
  --held_;
}

void ValueRanking::move(Slot from, Slot to) {
  const Ranking::Place place = ranking_.place_of(from);
  ranking_.move(from, Ranking::kNotHeld);
  curves_[to] = curves_[from];
  marks_.set(to, marks_.get(from));
  if (probation_ != nullptr) row_in_[to] = row_in_[from];
  ranking_.move(to, place == Ranking::kEvaluated ? Ranking::kWaits : place);
}

/// A lookup has used a prefetched row: it becomes one like others.
void ValueRanking::use_prefetched(Slot slot) {
  ++outcomes_.used;
  if (probation_->note_use(row_in_[slot], ranking_.place_of(slot) == Ranking::kOld)) {
    ++outcomes_.saved;
  }
  ranking_.move(slot, Ranking::kWaits);
}

Slot ValueRanking::evict() {
  if (held_ == 0) return kNoSlot;
  Slot victim = probation_ == nullptr ? kNoSlot : prefetched_victim();
  if (victim == kNoSlot) {
    victim = ranked_victim();
    if (victim == kNoSlot) victim = unranked_victim();
    owed_ = std::min<std::uint64_t>(owed_ + kSweep, slots_);
    if (probation_ != nullptr) {
      const std::uint32_t prefetched =
          ranking_.size(Ranking::kYoung) + ranking_.size(Ranking::kOld);
      probation_->note_eviction(row_in_[victim], prefetched);
    }
  }
  remove(victim);
  return victim;
}

/// The oldest row of the probationary segment, where that is over its target.
Slot ValueRanking::prefetched_victim() {
  for (;;) {
    const std::uint32_t old = ranking_.size(Ranking::kOld);
    if (old + ranking_.size(Ranking::kYoung) <= probation_->target()) return kNoSlot;
    const Slot oldest = ranking_.first(old > 0 ? Ranking::kOld : Ranking::kYoung);
    if (!marks_.lower(oldest)) return oldest;
    use_prefetched(oldest);
  }
}

Slot ValueRanking::ranked_victim() {
  Slot victim = ranking_.lowest();
  for (int checks = 0; victim != kNoSlot; victim = ranking_.lowest()) {
    if (marks_.lower(victim)) {
      ranking_.move(victim, Ranking::kWaits);
      continue;
    }
    if (checks++ == kChecks) break;
    const Ranking::Place bucket = bucket_of(model_.value(curves_[victim]));
    if (bucket <= ranking_.place_of(victim)) break;
    ranking_.move(victim, bucket);
  }
  return victim;
}

/// Where no row is ranked: the one that has waited longest, or any other.
Slot ValueRanking::unranked_victim() {
  if (ranking_.size(Ranking::kWaits) > 0) return ranking_.first(Ranking::kWaits);
  while (!ranking_.holds(hand_)) advance_hand();
  return hand_;
}

bool ValueRanking::collect(const TierView& tier) {
  for (std::uint32_t visits = 0; owed_ > 0 && visits < kVisitsPerStep; ++visits, --owed_) {
    visit(hand_, tier);
    advance_hand();
  }
  batch_.clear();
  rows_.clear();
  if (ranking_.size(Ranking::kWaits) < min_batch_) return owed_ > 0;
  while (ranking_.size(Ranking::kWaits) > 0 && batch_.size() < kMaxEvaluated) {
    const Slot slot = ranking_.first(Ranking::kWaits);
    ranking_.move(slot, Ranking::kEvaluated);
    // An access from here on counts as one since the evaluation.
    marks_.clear(slot);
    batch_.push_back(slot);
    rows_.push_back(tier.row_in(slot));
  }
  return owed_ > 0 || ranking_.size(Ranking::kWaits) >= min_batch_;
}

void ValueRanking::visit(Slot slot, const TierView& tier) {
  if (ranking_.is_prefetched(slot) && marks_.lower(slot)) return use_prefetched(slot);
  if (!ranking_.is_ranked(slot)) return;
  if (marks_.lower(slot)) {
    ranking_.move(slot, Ranking::kWaits);
    return;
  }
  const bool predicts = predicts_ && ++visits_ % kPredictEvery == 0;
  const Value value =
      predicts ? model_.predict(tier.row_in(slot), curves_[slot]) : model_.value(curves_[slot]);
  ranking_.move(slot, bucket_of(value));
}

void ValueRanking::evaluate(const TierView&) {
  evaluated_.clear();
  if (rows_.empty()) return;
  model_.evaluate(rows_, evaluated_);
  evaluations_ += rows_.size();
}

void ValueRanking::apply(const TierView& tier) {
  for (std::size_t i = 0; i < evaluated_.size(); ++i) {
    const Slot slot = batch_[i];
    // Evicted, or taken by another row, since it was collected.
    if (ranking_.place_of(slot) != Ranking::kEvaluated || tier.row_in(slot) != rows_[i]) continue;
    curves_[slot] = evaluated_[i];
    ranking_.move(slot, bucket_of(model_.value(curves_[slot])));
  }
  evaluated_.clear();
}

}  // namespace tieralloc
