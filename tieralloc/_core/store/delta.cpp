// delta.cpp: a delta staged and applied.
#include "store/delta.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "store/quantise.hpp"

namespace tieralloc {

std::uint64_t Store::version() const {
  std::shared_lock open(open_);
  epochs_.check_open();
  return pool_->version();
}

std::unique_ptr<Delta> Store::begin_delta(std::span<const DeltaPart> parts) {
  check_fork();
  return std::make_unique<Delta>(*this, parts);
}

Delta::Delta(Store& store, std::span<const DeltaPart> parts)
    : store_(store), keeping_layout_(store.change_layout_), updating_(store.update_mutex_) {
  store_.epochs_.check_open();
  store_.ensure_layout();  // may fail, which `publish` may not
  store_.update_counters_.reserve(store_.tables().size());
  staged_ = store_.pool_->begin_delta(parts);
}

void Delta::stage(const Table& table, Integers indices, const std::byte* values) {
  check_live(table);
  validate_rows(table, indices, BoundsCheck::fatal);
  if (indices.size == 0) return;
  std::vector<TableRow> rows(indices.size);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = row_at(table, indices, i);
  tables_.push_back(&table);
  staged_->stage(table.layout, rows, values);
}

void Delta::stage_floats(const Table& table, Integers indices, const float* values) {
  const auto row_of = [&](std::size_t i) { return row_at(table, indices, i); };
  std::vector<std::byte> quantised;
  validate_rows(table, indices, BoundsCheck::fatal);
  quantise(table.layout, values, indices.size, row_of, quantised);
  stage(table, indices, quantised.data());
}

std::uint64_t Delta::commit(std::uint64_t version) {
  const auto patches = this->patches();  // may fail, which the rest may not
  staged_->commit(version);
  const std::uint64_t held_ns = publish(patches);
  replace_copies(patches);
  const std::span<const StagedDelta::Part> parts = staged_->parts();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    store_.update_counters_.at(tables_[i]->position).updated_rows.add(parts[i].rows.size());
  }
  return held_ns;
}

/// By table; of resident tables with rows of the delta.
std::vector<std::optional<RowPatch>> Delta::patches() const {
  const std::span<const StagedDelta::Part> parts = staged_->parts();
  std::vector<std::vector<RowPatch::Place>> places(store_.tables().size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!tables_[i]->resident) continue;
    auto at = static_cast<std::size_t>(parts[i].values - parts.front().values);
    for (const TableRow row : parts[i].rows) {
      places[tables_[i]->position].push_back({row, at});
      at += parts[i].stride;
    }
  }
  std::vector<std::optional<RowPatch>> patches(places.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (!places[i].empty()) patches[i].emplace(std::move(places[i]), parts.front().values);
  }
  return patches;
}

/// Returns the nanoseconds that calls were held off.
std::uint64_t Delta::publish(const std::vector<std::optional<RowPatch>>& patches) noexcept {
  const std::uint64_t began = now_ns();
  ExclusiveGuard exclusive(store_.epochs_);
  staged_->publish();
  store_.overlay_.store(staged_.get(), std::memory_order_seq_cst);
  for (Table& table : store_.tables_) {
    const std::optional<RowPatch>& patch = patches[table.position];
    if (patch && table.resident) table.resident->publish(*patch);
  }
  return now_ns() - began;
}

/// As the replacement of copies by an update. Cannot fail: the log has the values.
void Delta::replace_copies(const std::vector<std::optional<RowPatch>>& patches) noexcept {
  const ReadGuard guard(store_.epochs_);  // keeps the tiers
  const std::span<const StagedDelta::Part> parts = staged_->parts();
  for (Table& table : store_.tables_) {
    const std::optional<RowPatch>& patch = patches[table.position];
    if (patch && table.resident) table.resident->write(*patch);
  }
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const auto& [layout, rows, values, stride] = parts[part];
    const Table& table = *tables_[part];
    if (table.tier == nullptr) continue;
    FastTier& tier = *table.tier;
    for (std::size_t i = 0; i < rows.size();) {
      const std::size_t end = std::min(rows.size(), i + kRowsPerLock);
      {
        std::lock_guard lock(tier.mutex());
        while (i < end && tier.update(table.first_tier_row + rows[i], values + i * stride)) ++i;
      }
      if (i < end) std::this_thread::yield();  // readers hold the spare slots
    }
  }
  store_.overlay_.store(nullptr, std::memory_order_seq_cst);
  store_.epochs_.wait_for_readers();
}

/// Replaces the addresses of copies by those of the delta's values.
void Store::overlay(const StagedDelta& delta, const FastTier& tier, std::span<const TierRow> rows,
                    const std::byte** copies) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (copies[i] == nullptr) continue;
    const std::byte* value = delta.find(tier.slow_offsets().of(rows[i]).offset());
    if (value != nullptr) copies[i] = value;
  }
}

}  // namespace tieralloc
