#include "policy/value_ranking.hpp"

#include <algorithm>
#include <cmath>

namespace tieralloc {
namespace {

constexpr std::uint32_t kSweep = 8;  // slots visited per eviction
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
  if (prefetches) probation_ = std::make_unique<Probation>(config.capacity);
}

std::size_t ValueRanking::bytes(const EvictionConfig& config, bool prefetches) {
  return sizeof(ValueRanking) + Marks::bytes(config.slots) + retired_bytes(config) +
         kMaxEvaluated * (sizeof(Slot) + sizeof(RowId) + sizeof(Curve)) +
         (prefetches ? sizeof(Probation) : 0);
}

std::size_t ValueRanking::retired_bytes(const EvictionConfig& config) {
  return Ranking::bytes(config.slots) + config.slots * sizeof(Curve);
}

void ValueRanking::resume() {
  Ranking ranking(slots_);
  curves_.resize(slots_);
  ranking_ = std::move(ranking);
}

void ValueRanking::insert(Slot slot, RowId) {
  marks_.clear(slot);
  ranking_.move(slot, Ranking::kWaits);
  ++held_;
}

void ValueRanking::insert_prefetched(Slot slot, RowId row) {
  if (probation_ == nullptr) return insert(slot, row);
  probation_->note_prefetch();
  marks_.clear(slot);
  ++held_;
  ranking_.move(slot, Ranking::kYoung);
  while (ranking_.size(Ranking::kYoung) > probation_->target() - probation_->old()) {
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
  ranking_.move(to, place == Ranking::kEvaluated ? Ranking::kWaits : place);
}

/// A lookup has used a prefetched row: it becomes one like others.
void ValueRanking::use_prefetched(Slot slot) {
  ++outcomes_.used;
  if (ranking_.place_of(slot) == Ranking::kOld) probation_->note_old_use();
  ranking_.move(slot, Ranking::kWaits);
}

/// How many hits prefetching costs for each hit in this bucket: none, but where the bucket is among
/// the lowest values. Hits of as many of the lowest rows as half of the prefetched ones tell how
/// many hits a slot there is worth; each further slot is worth less, as its rank is higher.
float ValueRanking::displaced_by(Ranking::Place bucket) const {
  const auto all = static_cast<float>(held_), taken = static_cast<float>(prefetched());
  const std::uint32_t lowest = prefetched() / 2;
  if (lowest == 0 || taken + static_cast<float>(lowest) >= all) return 0;
  const float left = all - taken;
  return ranking_.share_among_lowest(bucket, lowest) / static_cast<float>(lowest) *
         (left - static_cast<float>(lowest) / 2) * std::log(all / left);
}

/// A ranked row was hit since its evaluation: it is evaluated again.
void ValueRanking::use_ranked(Slot slot) {
  if (probation_ != nullptr) {
    const Ranking::Place place = ranking_.place_of(slot);
    outcomes_.displaced += displaced_by(place);
    probation_->note_low_hit(ranking_.share_among_lowest(place, probation_->old()));
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
  }
  remove(victim);
  return victim;
}

/// The oldest row of the probationary segment, where that is over its target.
Slot ValueRanking::prefetched_victim() {
  for (;;) {
    if (prefetched() <= probation_->target()) return kNoSlot;
    const bool has_old = ranking_.size(Ranking::kOld) > 0;
    const Slot oldest = ranking_.first(has_old ? Ranking::kOld : Ranking::kYoung);
    if (!marks_.lower(oldest)) return oldest;
    use_prefetched(oldest);
  }
}

Slot ValueRanking::ranked_victim() {
  Slot victim = ranking_.lowest();
  for (int checks = 0; victim != kNoSlot; victim = ranking_.lowest()) {
    if (marks_.lower(victim)) {
      use_ranked(victim);
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
  if (marks_.lower(slot)) return use_ranked(slot);
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
