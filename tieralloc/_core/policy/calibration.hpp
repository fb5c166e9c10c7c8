// calibration.hpp: corrects predicted values by outcomes.
//
// Some residents' values are noted as predictions. Each comes out by the row's next access, or by
// the time after which a use counts for nothing. By octaves of the value and of the time since its
// evaluation, outcomes and predictions are summed, both decayed by half per some thousand outcomes;
// values are multiplied by their ratio from then on. This is what makes a model survive popularity
// that shifts. Bounded, all memory taken at construction; each call O(1), amortised.
//
// Concurrency: not for concurrent use, but `corrected` may run beside all other calls.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"
#include "policy/curve.hpp"

namespace tieralloc {

class Calibration {
 public:
  /// Of a tier of `capacity` rows.
  Calibration(const CurveMap& map, std::uint32_t capacity);

  static std::size_t bytes(std::uint32_t capacity);

  /// A value, corrected; `elapsed` accesses after the row's evaluation.
  Value corrected(Value value, std::uint32_t elapsed) const {
    const auto sum = static_cast<std::int32_t>(value) +
                     offsets_[cell_of(value, elapsed)].load(std::memory_order_relaxed);
    return static_cast<Value>(sum < 0 ? 0 : sum > std::int32_t{kMaxValue} ? kMaxValue : sum);
  }

  /// Notes what is predicted of a row at access `now`, if there is room.
  void predict(RowId row, Value value, std::uint32_t elapsed, std::uint32_t now);

  /// An access to a row at access `now`.
  void observe(RowId row, std::uint32_t now) {
    Place& place = places_[place_of(row)];
    if (place != kNoPlace) note_use(row, place, now);
  }

  /// Settles predictions whose time is over.
  void settle(std::uint32_t now);

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
  void note_use(RowId row, Place& place, std::uint32_t now);
  void settle_oldest();

  const CurveMap& map_;
  std::vector<Prediction> ring_;  ///< the oldest first, from begin_ to end_
  std::vector<Place> places_;     ///< by row's hash: in the ring, of a prediction not used yet
  Place begin_ = 0, end_ = 0;
  std::array<float, kElapsed * kValues> outcomes_{};
  std::array<float, kElapsed * kValues> predictions_{};
  std::array<std::atomic<std::int16_t>, kElapsed * kValues> offsets_{};
};

}  // namespace tieralloc
