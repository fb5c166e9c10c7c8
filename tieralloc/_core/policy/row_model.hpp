// row_model.hpp: what is known of rows, and what follows from it: history, network, calibration.
//
// Concurrency: one thread at a time, a policy's planner; but `value` may run beside it under the
// lock of the tier that the planner applies its decisions under (a value may then be an access
// old).
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
  /// Rows are evaluated in batches of so many.
  static constexpr std::size_t kBatch = 24;

  RowModel(const PolicyModel& model, const HistoryConfig& history, std::uint32_t capacity);

  static std::size_t bytes(const HistoryConfig& history, std::uint32_t capacity);

  void begin_sample() { history_.begin_sample(); }
  /// As RowHistory::observe.
  std::uint32_t observe(RowId row);

  /// Appends the curve of each row, evaluated as of the last access.
  void evaluate(std::span<const RowId> rows, std::vector<Curve>& curves);

  /// A row's value, corrected by outcomes.
  Value value(const Curve& curve) const {
    const std::uint32_t now = now_.load(std::memory_order_relaxed);
    return calibration_.corrected(map_.value(curve, now), now - curve.at);
  }

  /// The same, and notes it as a prediction of the row.
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
