// fake_model.hpp: a model with a function as network, and a tier without bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "check.hpp"
#include "eviction/planner.hpp"
#include "policy/learned_policy.hpp"
#include "policy/model.hpp"

/// Maps a row's features to the hazard of all its intervals.
using Hazard = std::function<float(const float* features)>;

class FakeNetwork final : public tieralloc::Network {
 public:
  FakeNetwork(Hazard hazard, std::uint32_t outputs,
              std::uint32_t features = tieralloc::kRowFeatures)
      : hazard_(std::move(hazard)), outputs_(outputs), features_(features) {}

  std::uint32_t features() const override { return features_; }
  std::uint32_t outputs() const override { return outputs_; }
  void evaluate(const float* features, std::size_t rows, float* probabilities) override {
    for (std::size_t row = 0; row < rows; ++row) {
      std::fill_n(probabilities + row * outputs_, outputs_, hazard_(features + row * features_));
    }
  }
  const char* kind() const override { return "fake"; }
  std::size_t bytes() const override { return sizeof(FakeNetwork); }

 private:
  Hazard hazard_;
  std::uint32_t outputs_;
  std::uint32_t features_;
};

/// A model for which the eviction age of LRU is four times the capacity.
inline std::shared_ptr<tieralloc::PolicyModel> fake_model(Hazard hazard) {
  auto model = std::make_shared<tieralloc::PolicyModel>();
  for (std::uint32_t end = 16; end <= 1 << 20; end *= 4) {
    model->intervals.push_back(end);
    model->horizons.push_back(end);
  }
  const auto outputs = static_cast<std::uint32_t>(model->intervals.size());
  model->caching = [=] { return std::make_unique<FakeNetwork>(hazard, outputs); };
  model->eviction_ages = {{1, 4.0}, {1 << 20, 4.0 * (1 << 20)}};
  return model;
}

/// Adds a prefetch network to a model; three of its intervals end by the horizon.
inline void add_prefetching(tieralloc::PolicyModel& model, Hazard hazard) {
  constexpr std::uint32_t kHorizon = tieralloc::kPrefetchHorizon;
  model.prefetch_intervals = {0, 64, kHorizon, 2 * kHorizon};
  model.prefetch = [hazard = std::move(hazard)] {
    return std::make_unique<FakeNetwork>(hazard, 4, tieralloc::kCandidateFeatures);
  };
}

/// A hazard that grows with the recency and the number of accesses.
inline float usual_hazard(const float* features) {
  const float recency = features[6], count = features[10];
  return std::clamp(std::exp2(count - recency) * 0.5f, 1e-4f, 0.9f);
}

inline float constant_hazard(const float*) {
  return 0.1f;
}

/// A single table.
inline tieralloc::TierTables one_table(tieralloc::RowId rows) {
  return {{0, rows}, {0}};
}

/// A table per row, so that the first feature of a row is its number.
inline tieralloc::HistoryConfig table_per_row(std::uint32_t rows) {
  tieralloc::HistoryConfig config;
  for (std::uint32_t row = 0; row <= rows; ++row) config.table_starts.push_back(row);
  config.remembered = 4 * rows;
  return config;
}

/// Draws a row below `rows`: half of the draws are among an eighth of the rows, recursively.
inline tieralloc::RowId skewed_row(std::mt19937_64& random, std::uint64_t rows) {
  while (random() % 2 == 0 && rows > 8) rows /= 8;
  return random() % rows;
}

/// The slots of a tier and their rows.
class FakeTier final : public tieralloc::TierView {
 public:
  explicit FakeTier(tieralloc::Slot slots) : row_in_(slots, tieralloc::kNoRow) {
    for (tieralloc::Slot slot = slots; slot-- > 0;) free_.push_back(slot);
  }

  bool is_resident(tieralloc::RowId row) const override { return slot_of_.contains(row); }
  tieralloc::Slot find_slot(tieralloc::RowId row) const override {
    const auto found = slot_of_.find(row);
    return found == slot_of_.end() ? tieralloc::kNoSlot : found->second;
  }
  tieralloc::RowId row_in(tieralloc::Slot slot) const override { return row_in_[slot]; }

  const std::map<tieralloc::RowId, tieralloc::Slot>& slots() const { return slot_of_; }
  std::size_t free_slots() const { return free_.size(); }

  tieralloc::Slot add(tieralloc::RowId row) {
    const tieralloc::Slot slot = free_.back();
    free_.pop_back();
    row_in_[slot] = row;
    slot_of_[row] = slot;
    return slot;
  }

  /// Frees a slot that holds a row, and returns the row.
  tieralloc::RowId take_out(tieralloc::Slot slot) {
    CHECK(slot < row_in_.size() && row_in_[slot] != tieralloc::kNoRow);
    const tieralloc::RowId row = std::exchange(row_in_[slot], tieralloc::kNoRow);
    slot_of_.erase(row);
    free_.push_back(slot);
    return row;
  }

  /// Moves a row to a free slot, and returns the slot.
  tieralloc::Slot move(tieralloc::Slot from) {
    const tieralloc::Slot to = free_.back();
    free_.back() = from;
    row_in_[to] = std::exchange(row_in_[from], tieralloc::kNoRow);
    slot_of_[row_in_[to]] = to;
    return to;
  }

 private:
  std::vector<tieralloc::RowId> row_in_;
  std::vector<tieralloc::Slot> free_;
  std::map<tieralloc::RowId, tieralloc::Slot> slot_of_;
};
