// row_model.hpp: estimates the value of rows: history, network, curves and calibration.
//
// Concurrency: one thread at a time, that of the planner, except `value`. `value` may run beside
// calls other than `predict`, and may then use the access counter of the previous access.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "policy/calibration.hpp"
#include "policy/curve.hpp"
#include "policy/model.hpp"
#include "policy/row_history.hpp"

namespace tieralloc {

class RowModel {
 public:
  static constexpr std::size_t kBatch = 24;  ///< rows evaluated together

  RowModel(const PolicyModel& model, const HistoryConfig& history, std::uint32_t capacity);

  static std::size_t bytes(const HistoryConfig& history, std::uint32_t capacity);

  /// Appends its memory: that of a model of the same sizes and `fingerprint` may replace it.
  void add_memory(std::vector<std::span<std::byte>>& parts);
  /// Goes on from replaced memory. Curves made before are void.
  void adopt_memory();
  /// A hash of the network's outputs for some rows.
  std::uint64_t fingerprint();

  void begin_sample() { history_.begin_sample(); }
  /// Observes an access; returns as RowHistory::observe does.
  std::uint32_t observe(RowId row);

  /// Appends the curve of each row, as of the last access.
  void evaluate(std::span<const RowId> rows, std::vector<Curve>& curves);

  /// A row's present value, corrected by the calibration.
  Value value(const Curve& curve) const {
    const std::uint32_t now = now_.load(std::memory_order_relaxed);
    return calibration_.corrected(map_.value(curve, now), now - curve.at);
  }

  /// Returns the value, and records it as a prediction for the calibration.
  Value predict(RowId row, const Curve& curve);

  const RowHistory& history() const { return history_; }
  const Network& network() const { return *network_; }

 private:
  RowHistory history_;
  std::unique_ptr<Network> network_;
  CurveMap map_;
  Calibration calibration_;
  std::atomic<std::uint32_t> now_{0};
  std::vector<float> features_;
  std::vector<float> hazards_;
};

}  // namespace tieralloc
