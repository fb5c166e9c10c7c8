// row_model.cpp: feeds accesses to the history and the calibration, and evaluates rows.
#include "policy/row_model.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>

#include "base/split_mix.hpp"

namespace tieralloc {
namespace {

constexpr std::uint32_t kExpireEvery = 32;  // accesses

std::unique_ptr<Network> make_network(const PolicyModel& model) {
  std::unique_ptr<Network> network = model.caching();
  if (network->features() != kRowFeatures || network->outputs() != model.intervals.size()) {
    throw std::invalid_argument("caching model: expected " + std::to_string(kRowFeatures) +
                                " features and " + std::to_string(model.intervals.size()) +
                                " outputs, got " + std::to_string(network->features()) + " and " +
                                std::to_string(network->outputs()));
  }
  return network;
}

CurveMap make_map(const PolicyModel& model, std::uint32_t capacity) {
  const double age = eviction_age(model.eviction_ages, capacity);
  return CurveMap(model.intervals, make_horizons(model.horizons, age), age);
}

}  // namespace

RowModel::RowModel(const PolicyModel& model, const HistoryConfig& history, std::uint32_t capacity)
    : history_(history),
      network_(make_network(model)),
      map_(make_map(model, capacity)),
      calibration_(map_, capacity),
      features_(kBatch * kRowFeatures),
      hazards_(kBatch * network_->outputs()) {}

std::size_t RowModel::bytes(const HistoryConfig& history, std::uint32_t capacity) {
  return RowHistory::bytes(history) + Calibration::bytes(capacity) + sizeof(RowModel);
}

void RowModel::add_memory(std::vector<std::span<std::byte>>& parts) {
  history_.add_memory(parts);
  calibration_.add_memory(parts);
}

void RowModel::adopt_memory() {
  now_.store(history_.now(), std::memory_order_relaxed);
  calibration_.adopt_memory();
}

std::uint64_t RowModel::fingerprint() {
  for (std::size_t i = 0; i < features_.size(); ++i) features_[i] = static_cast<float>(i % 17);
  network_->evaluate(features_.data(), kBatch, hazards_.data());
  std::uint64_t hash = hazards_.size();
  for (const float hazard : hazards_) {
    hash = SplitMix64::mix(hash ^ std::bit_cast<std::uint32_t>(hazard));
  }
  return hash;
}

std::uint32_t RowModel::observe(RowId row) {
  const std::uint32_t since = history_.observe(row);
  const std::uint32_t now = history_.now();
  now_.store(now, std::memory_order_relaxed);
  calibration_.observe(row, now);
  if (now % kExpireEvery == 0) calibration_.expire(now);
  return since;
}

void RowModel::evaluate(std::span<const RowId> rows, std::vector<Curve>& curves) {
  for (std::size_t at = 0; at < rows.size(); at += kBatch) {
    const auto batch = rows.subspan(at, std::min(kBatch, rows.size() - at));
    history_.write_features(batch, features_.data());
    network_->evaluate(features_.data(), batch.size(), hazards_.data());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      curves.push_back(map_.make(&hazards_[i * network_->outputs()], history_.now()));
    }
  }
}

Value RowModel::predict(RowId row, const Curve& curve) {
  const std::uint32_t now = history_.now();
  const Value value = map_.value(curve, now);
  calibration_.add_prediction(row, value, now - curve.at, now);
  return calibration_.corrected(value, now - curve.at);
}

}  // namespace tieralloc
