// value_ranking.cpp: chooses victims by value and keeps the values up to date.
#include "policy/value_ranking.hpp"

#include <algorithm>
#include <cmath>

namespace tieralloc {
namespace {

constexpr std::uint32_t kVisitsPerEviction = 8;
constexpr std::uint32_t kMaxVisitsPerStep = 4096;
constexpr std::uint32_t kPredictEvery = 8;     // visits
constexpr std::uint32_t kMinBatchDivisor = 8;  // a small tier evaluates an eighth of its rows
constexpr int kMaxRechecks = 3;                // of values, per victim

}  // namespace

ValueRanking::ValueRanking(const EvictionConfig& config, RowModel& model, bool calibrates,
                           bool prefetches)
    : ReferenceBitPolicy(config, 1),
      model_(model),
      calibrates_(calibrates),
      slots_(config.slots),
      min_batch_(
          std::clamp<std::uint32_t>(config.capacity / kMinBatchDivisor, 1, RowModel::kBatch)),
      ranking_(config.slots),
      curves_(config.slots) {
  batch_slots_.reserve(kMaxEvaluated);
  batch_rows_.reserve(kMaxEvaluated);
  batch_curves_.reserve(kMaxEvaluated);
  if (prefetches) probation_ = std::make_unique<Probation>(config.capacity);
}

std::size_t ValueRanking::bytes(const EvictionConfig& config, bool prefetches) {
  return sizeof(ValueRanking) + ReferenceBits::bytes(config.slots) + slot_bytes(config) +
         kMaxEvaluated * (sizeof(Slot) + sizeof(RowId) + sizeof(Curve)) +
         (prefetches ? sizeof(Probation) : 0);
}

std::size_t ValueRanking::slot_bytes(const EvictionConfig& config) {
  return Ranking::bytes(config.slots) + config.slots * sizeof(Curve);
}

void ValueRanking::allocate_slots() {
  Ranking ranking(slots_);
  curves_.resize(slots_);
  ranking_ = std::move(ranking);
}

void ValueRanking::forget_curves() {
  for (Slot slot = 0; slot < slots_; ++slot) {
    const bool is_in_evaluation = ranking_.place_of(slot) == Ranking::kInEvaluation;
    if (is_in_evaluation || ranking_.is_ranked(slot)) ranking_.move(slot, Ranking::kUnevaluated);
  }
}

void ValueRanking::insert(Slot slot, RowId) {
  reference_bits_.clear(slot);
  ranking_.move(slot, Ranking::kUnevaluated);
  ++num_rows_;
}

void ValueRanking::insert_prefetched(Slot slot, RowId row) {
  if (probation_ == nullptr) return insert(slot, row);
  probation_->record_prefetch();
  reference_bits_.clear(slot);
  ++num_rows_;
  ranking_.move(slot, Ranking::kNewPrefetch);
  while (ranking_.size(Ranking::kNewPrefetch) > probation_->target() - probation_->num_old()) {
    ranking_.move(ranking_.first(Ranking::kNewPrefetch), Ranking::kOldPrefetch);
  }
}

void ValueRanking::remove(Slot slot) {
  ranking_.move(slot, Ranking::kNotHeld);
  --num_rows_;
}

void ValueRanking::move(Slot from, Slot to) {
  const Ranking::Place place = ranking_.place_of(from);
  ranking_.move(from, Ranking::kNotHeld);
  curves_[to] = curves_[from];
  reference_bits_.set(to, reference_bits_.get(from));
  ranking_.move(to, place == Ranking::kInEvaluation ? Ranking::kUnevaluated : place);
}

/// Promotes a prefetched row that a lookup has used out of the probationary segment.
void ValueRanking::promote_prefetched(Slot slot) {
  ++outcomes_.used;
  if (ranking_.place_of(slot) == Ranking::kOldPrefetch) probation_->record_old_use();
  ranking_.move(slot, Ranking::kUnevaluated);
}

/// Estimates the hits displaced by prefetched rows per hit in this bucket.
///
/// Hits of the n rows of the lowest values, n being half of the prefetched rows, measure the hits
/// per slot there. A further slot gains less, in proportion to its rank. Integrated over the slots
/// of all prefetched rows, a hit among those n displaces
///     (rest - n / 2) / n * ln(all / rest) hits, with rest = all rows - prefetched rows
float ValueRanking::displaced_by(Ranking::Place bucket) const {
  const auto all = static_cast<float>(num_rows_), taken = static_cast<float>(num_prefetched());
  const std::uint32_t lowest = num_prefetched() / 2;
  if (lowest == 0 || taken + static_cast<float>(lowest) >= all) return 0;
  const float rest = all - taken;
  return ranking_.share_among_lowest(bucket, lowest) / static_cast<float>(lowest) *
         (rest - static_cast<float>(lowest) / 2) * std::log(all / rest);
}

/// Queues a ranked row that was hit since its evaluation for another one.
void ValueRanking::requeue_hit(Slot slot) {
  if (probation_ != nullptr) {
    const Ranking::Place place = ranking_.place_of(slot);
    outcomes_.displaced += displaced_by(place);
    probation_->record_low_hit(ranking_.share_among_lowest(place, probation_->num_old()));
  }
  ranking_.move(slot, Ranking::kUnevaluated);
}

Slot ValueRanking::evict() {
  if (num_rows_ == 0) return kNoSlot;
  Slot victim = probation_ == nullptr ? kNoSlot : prefetched_victim();
  if (victim == kNoSlot) {
    victim = ranked_victim();
    if (victim == kNoSlot) victim = unranked_victim();
    pending_visits_ = std::min<std::uint64_t>(pending_visits_ + kVisitsPerEviction, slots_);
  }
  remove(victim);
  return victim;
}

/// The oldest row of the probationary segment if that is above its target, else kNoSlot.
Slot ValueRanking::prefetched_victim() {
  for (;;) {
    if (num_prefetched() <= probation_->target()) return kNoSlot;
    const bool has_old = ranking_.size(Ranking::kOldPrefetch) > 0;
    const Slot oldest = ranking_.first(has_old ? Ranking::kOldPrefetch : Ranking::kNewPrefetch);
    if (!reference_bits_.decrement(oldest)) return oldest;
    promote_prefetched(oldest);
  }
}

Slot ValueRanking::ranked_victim() {
  Slot victim = ranking_.lowest();
  for (int rechecks = 0; victim != kNoSlot; victim = ranking_.lowest()) {
    if (reference_bits_.decrement(victim)) {
      requeue_hit(victim);
      continue;
    }
    if (rechecks++ == kMaxRechecks) break;
    const Ranking::Place bucket = bucket_of(model_.value(curves_[victim]));
    if (bucket <= ranking_.place_of(victim)) break;
    ranking_.move(victim, bucket);
  }
  return victim;
}

/// The victim if no row is ranked: the row that has been unevaluated longest, else any row.
Slot ValueRanking::unranked_victim() {
  if (ranking_.size(Ranking::kUnevaluated) > 0) return ranking_.first(Ranking::kUnevaluated);
  while (!ranking_.holds(hand_)) advance_hand();
  return hand_;
}

bool ValueRanking::collect(const TierView& tier) {
  for (std::uint32_t visits = 0; pending_visits_ > 0 && visits < kMaxVisitsPerStep; ++visits) {
    visit(hand_, tier);
    advance_hand();
    --pending_visits_;
  }
  batch_slots_.clear();
  batch_rows_.clear();
  if (ranking_.size(Ranking::kUnevaluated) < min_batch_) return pending_visits_ > 0;
  while (ranking_.size(Ranking::kUnevaluated) > 0 && batch_slots_.size() < kMaxEvaluated) {
    const Slot slot = ranking_.first(Ranking::kUnevaluated);
    ranking_.move(slot, Ranking::kInEvaluation);
    // An access from here on counts as one since the evaluation.
    reference_bits_.clear(slot);
    batch_slots_.push_back(slot);
    batch_rows_.push_back(tier.row_in(slot));
  }
  return pending_visits_ > 0 || ranking_.size(Ranking::kUnevaluated) >= min_batch_;
}

void ValueRanking::visit(Slot slot, const TierView& tier) {
  if (ranking_.is_prefetched(slot) && reference_bits_.decrement(slot)) {
    return promote_prefetched(slot);
  }
  if (!ranking_.is_ranked(slot)) return;
  if (reference_bits_.decrement(slot)) return requeue_hit(slot);
  const bool is_recorded = calibrates_ && ++visits_ % kPredictEvery == 0;
  const Value value =
      is_recorded ? model_.predict(tier.row_in(slot), curves_[slot]) : model_.value(curves_[slot]);
  ranking_.move(slot, bucket_of(value));
}

void ValueRanking::evaluate(const TierView&) {
  batch_curves_.clear();
  if (batch_rows_.empty()) return;
  model_.evaluate(batch_rows_, batch_curves_);
  evaluations_ += batch_rows_.size();
}

void ValueRanking::apply(const TierView& tier) {
  for (std::size_t i = 0; i < batch_curves_.size(); ++i) {
    const Slot slot = batch_slots_[i];
    // The row may have been evicted, and its slot reused, since it was collected.
    if (ranking_.place_of(slot) != Ranking::kInEvaluation) continue;
    if (tier.row_in(slot) != batch_rows_[i]) continue;
    curves_[slot] = batch_curves_[i];
    ranking_.move(slot, bucket_of(model_.value(curves_[slot])));
  }
  batch_curves_.clear();
}

}  // namespace tieralloc
