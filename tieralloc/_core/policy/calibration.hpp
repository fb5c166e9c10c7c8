// calibration.hpp: corrects predicted values by observed outcomes.
//
//   add_prediction(row): append (row, value) to a ring, if it has room
//   observe(row):        the outcome of the row's prediction = CurveMap::outcome(accesses since)
//   expire:              for predictions older than the longest horizon (no access: outcome 0):
//                          outcomes[cell] and predictions[cell] += theirs, both decayed
//                          offset[cell] = log2(outcomes[cell] ÷ predictions[cell])
//   corrected(value):    value + offset[cell]; values are logarithms
// A cell is an octave of the value and an octave of the time since the evaluation. Calibration lets
// a model follow shifts of popularity after its training.
//
// All memory is allocated at construction; every call is O(1), amortised. Not for concurrent use,
// except that `corrected` may run beside all other calls.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"
#include "policy/curve.hpp"

namespace tieralloc {

class Calibration {
 public:
  /// For a tier of `capacity` rows.
  Calibration(const CurveMap& map, std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  /// Returns a value corrected by outcomes, `elapsed` accesses after the row's evaluation.
  Value corrected(Value value, std::uint32_t elapsed) const {
    const auto sum = static_cast<std::int32_t>(value) +
                     offsets_[cell_of(value, elapsed)].load(std::memory_order_relaxed);
    return static_cast<Value>(sum < 0 ? 0 : sum > std::int32_t{kMaxValue} ? kMaxValue : sum);
  }

  /// Records a row's value at access `now` as a prediction, if there is room.
  void add_prediction(RowId row, Value value, std::uint32_t elapsed, std::uint32_t now);

  /// Observes access number `now`.
  void observe(RowId row, std::uint32_t now) {
    Place& place = places_[place_of(row)];
    if (place != kNoPlace) record_use(row, place, now);
  }

  /// Appends its memory, which is that of predictions evaluated so far.
  void add_memory(std::vector<std::span<std::byte>>& parts);
  /// Goes on from replaced memory; drops the present predictions.
  void adopt_memory();

  /// Evaluates predictions older than the longest horizon.
  void expire(std::uint32_t now);

 private:
  using Place = std::uint32_t;
  static constexpr Place kNoPlace = ~Place{0};
  static constexpr std::size_t kElapsed = 32;
  static constexpr std::size_t kValues = kMaxValue / kValuesPerOctave + 1;

  struct Prediction {
    RowId row;
    std::uint32_t at;
    std::uint16_t cell;
    std::uint16_t value;
    float outcome;
  };

  static std::size_t cell_of(Value value, std::uint32_t elapsed) {
    const auto octave = static_cast<std::size_t>(32 - __builtin_clz(elapsed | 1));
    return (octave - 1) * kValues + value / kValuesPerOctave;
  }
  std::size_t place_of(RowId row) const;
  void record_use(RowId row, Place& place, std::uint32_t now);
  void expire_oldest();
  void correct(std::size_t cell);

  const CurveMap& map_;
  std::vector<Prediction> ring_;  ///< from begin_ to end_, the oldest first
  std::vector<Place> places_;     ///< by row's hash: the place of its open prediction in the ring
  Place begin_ = 0, end_ = 0;
  std::array<float, kElapsed * kValues> outcome_sums_{};
  std::array<float, kElapsed * kValues> prediction_sums_{};
  std::array<std::atomic<std::int16_t>, kElapsed * kValues> offsets_{};
};

}  // namespace tieralloc
