// delta.cpp: a delta staged and applied.
#include "store/delta.hpp"

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
    : store_(store), updating_(store.update_mutex_) {
  store_.epochs_.check_open();
  store_.ensure_layout();  // may fail, which `publish` may not
  staged_ = store_.pool_->begin_delta(parts);
}

void Delta::stage(const Table& table, Integers indices, const std::byte* values) {
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
  staged_->commit(version);
  const std::uint64_t began = now_ns();
  publish();
  const std::uint64_t paused = now_ns() - began;
  std::uint64_t rows = 0;
  for (const StagedDelta::Part& part : staged_->parts()) rows += part.rows.size();
  store_.updates_.fetch_add(rows, std::memory_order_relaxed);
  return paused;
}

void Delta::publish() noexcept {
  ExclusiveGuard exclusive(store_.epochs_);
  staged_->publish();
  if (!store_.layout_ready_.load(std::memory_order_acquire)) return;  // there are no copies
  const std::span<const StagedDelta::Part> parts = staged_->parts();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const StagedDelta::Part& part = parts[i];
    const Table& table = *tables_[i];
    const std::size_t row_bytes = table.row_bytes();
    if (table.resident) {
      const std::byte* value = part.values;
      for (const TableRow row : part.rows) {
        table.resident->overwrite(row, value);
        value += part.stride;
      }
      continue;
    }
    std::lock_guard lock(table.tier->mutex());
    table.tier->overwrite(table.first_tier_row, part.rows, part.values, part.stride, row_bytes);
  }
}

}  // namespace tieralloc
