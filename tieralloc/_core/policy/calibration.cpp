// calibration.cpp: matches accesses with predictions and updates the offsets.
#include "policy/calibration.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/split_mix.hpp"

namespace tieralloc {
namespace {

constexpr float kCalibrationDecay = 1 - 1.0f / 4000;  // per outcome
constexpr float kPrior = 5;                           // outcomes assumed to have come true

std::size_t ring_size(std::uint32_t capacity) {
  return std::bit_ceil(std::clamp<std::size_t>(capacity / 8, 64, 1 << 14));
}

}  // namespace

Calibration::Calibration(const CurveMap& map, std::uint32_t capacity)
    : map_(map), ring_(ring_size(capacity)), places_(2 * ring_size(capacity), kNoPlace) {}

std::size_t Calibration::bytes(std::uint32_t capacity) {
  return ring_size(capacity) * (sizeof(Prediction) + 2 * sizeof(Place));
}

std::size_t Calibration::place_of(RowId row) const {
  return SplitMix64::mix(row) & (places_.size() - 1);
}

void Calibration::add_prediction(RowId row, Value value, std::uint32_t elapsed, std::uint32_t now) {
  Place& place = places_[place_of(row)];
  if (place != kNoPlace || end_ - begin_ == ring_.size()) return;
  place = end_;
  ring_[end_++ & (ring_.size() - 1)] = {row, now,
                                        static_cast<std::uint16_t>(cell_of(value, elapsed)),
                                        static_cast<std::uint16_t>(value), 0};
}

void Calibration::record_use(RowId row, Place& place, std::uint32_t now) {
  Prediction& prediction = ring_[place & (ring_.size() - 1)];
  if (prediction.row != row || prediction.at == now) return;
  prediction.outcome = map_.outcome(now - prediction.at);
  place = kNoPlace;
}

void Calibration::add_memory(std::vector<std::span<std::byte>>& parts) {
  parts.push_back(std::as_writable_bytes(std::span(outcome_sums_)));
  parts.push_back(std::as_writable_bytes(std::span(prediction_sums_)));
}

void Calibration::adopt_memory() {
  begin_ = end_;
  std::ranges::fill(places_, kNoPlace);
  for (std::size_t cell = 0; cell < offsets_.size(); ++cell) correct(cell);
}

void Calibration::expire(std::uint32_t now) {
  while (begin_ != end_ && now - ring_[begin_ & (ring_.size() - 1)].at > map_.max_horizon()) {
    expire_oldest();
  }
}

void Calibration::expire_oldest() {
  const Prediction& prediction = ring_[begin_ & (ring_.size() - 1)];
  float& outcome = outcome_sums_[prediction.cell];
  float& predicted = prediction_sums_[prediction.cell];
  outcome = outcome * kCalibrationDecay + prediction.outcome;
  predicted = predicted * kCalibrationDecay +
              std::exp2(static_cast<float>(prediction.value) / kValuesPerOctave + kLowestValue);
  correct(prediction.cell);
  Place& place = places_[place_of(prediction.row)];
  if (place == begin_) place = kNoPlace;
  ++begin_;
}

/// Sets a cell's offset to its outcomes ÷ its predictions.
void Calibration::correct(std::size_t cell) {
  const float ratio = (outcome_sums_[cell] + kPrior) / (prediction_sums_[cell] + kPrior);
  const float offset = std::clamp(std::log2(ratio) * kValuesPerOctave, -32767.0f, 32767.0f);
  offsets_[cell].store(static_cast<std::int16_t>(offset), std::memory_order_relaxed);
}

}  // namespace tieralloc
