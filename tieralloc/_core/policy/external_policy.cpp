// external_policy.cpp: translates row numbers and applies external decisions.
#include "policy/external_policy.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {
namespace {

/// The table of a row below the last of the ascending starts.
std::size_t table_of(const std::vector<RowId>& starts, RowId row) {
  return static_cast<std::size_t>(std::ranges::upper_bound(starts, row) - starts.begin()) - 1;
}

}  // namespace

ExternalPolicy::ExternalPolicy(const EvictionConfig& config, const TierTables& tables,
                               ExternalOptions options)
    : rows_(config, options.eviction_speed),
      tables_(tables),
      options_(std::move(options)),
      bytes_(sizeof(ExternalPolicy) + PriorityPolicy::bytes(config)) {
  if (options_.chunk < 1) throw std::invalid_argument("chunk: expected at least 1 access, got 0");
  check_tables();
  bytes_ += model_bytes_share();
  if (options_.max_bytes == 0 || bytes_ <= options_.max_bytes) return;
  throw std::invalid_argument("memory: expected at least " + std::to_string(bytes_) +
                              " for a fast tier of " + std::to_string(config.capacity) +
                              " rows, got " + std::to_string(options_.max_bytes));
}

void ExternalPolicy::check_tables() const {
  const std::vector<RowId>& starts = options_.table_starts;
  if (starts.empty()) return;
  for (std::size_t t = 0; t < tables_.numbers.size(); ++t) {
    const std::size_t number = tables_.numbers[t];
    const RowId expected = number + 1 < starts.size() ? starts[number + 1] - starts[number] : 0;
    const RowId rows = tables_.starts[t + 1] - tables_.starts[t];
    if (rows == expected) continue;
    throw std::invalid_argument("table " + std::to_string(number) + ": expected " +
                                std::to_string(expected) + " rows, got " + std::to_string(rows));
  }
}

/// The tier's share of the model's memory, in proportion to its rows.
std::size_t ExternalPolicy::model_bytes_share() const {
  const std::vector<RowId>& starts = options_.table_starts;
  if (starts.empty() || starts.back() == 0) return options_.model_bytes;
  const double share = static_cast<double>(tables_.starts.back()) / starts.back();
  return static_cast<std::size_t>(static_cast<double>(options_.model_bytes) * share);
}

void ExternalPolicy::observe(std::span<const RowId> rows) {
  undecided_.insert(undecided_.end(), rows.begin(), rows.end());
}

void ExternalPolicy::evaluate(const TierView&) {
  const std::size_t whole = undecided_.size() / options_.chunk * options_.chunk;
  if (whole == 0) return;
  decisions_ = options_.decide(to_external_rows(std::span(undecided_).first(whole)));
  if (decisions_.keep.size() != whole) {
    throw std::runtime_error("decisions: expected " + std::to_string(whole) + ", got " +
                             std::to_string(decisions_.keep.size()));
  }
  to_tier_rows(decisions_.prefetches);
  num_decided_ = whole;
}

/// Translates rows of the tier to the row numbers of `decide`; valid until the next call.
std::span<const RowId> ExternalPolicy::to_external_rows(std::span<const RowId> rows) {
  if (options_.table_starts.empty()) return rows;
  external_rows_.clear();
  for (const RowId row : rows) {
    const auto table = table_of(tables_.starts, row);
    external_rows_.push_back(row - tables_.starts[table] +
                             options_.table_starts[tables_.numbers[table]]);
  }
  return external_rows_;
}

/// Translates row numbers of `decide` to rows of the tier; omits rows of other tiers' tables.
void ExternalPolicy::to_tier_rows(std::vector<RowId>& rows) const {
  const bool same = options_.table_starts.empty();
  const std::vector<RowId>& starts = same ? tables_.starts : options_.table_starts;
  const RowId end = starts.empty() ? 0 : starts.back();
  std::size_t kept = 0;
  for (const RowId row : rows) {
    if (row >= end) {
      throw std::runtime_error("prefetches: expected rows below " + std::to_string(end) + ", got " +
                               std::to_string(row));
    }
    if (same) continue;
    const auto number = static_cast<std::uint32_t>(table_of(starts, row));
    const auto own = std::ranges::find(tables_.numbers, number);
    if (own == tables_.numbers.end()) continue;
    rows[kept++] = row - starts[number] + tables_.starts[own - tables_.numbers.begin()];
  }
  if (!same) rows.resize(kept);
}

void ExternalPolicy::apply(const TierView& tier) {
  for (std::size_t i = 0; i < num_decided_; ++i) {
    const Slot slot = tier.find_slot(undecided_[i]);
    if (slot == kNoSlot) continue;
    rows_.set_priority(slot, decisions_.keep[i] != 0 ? rows_.highest() : rows_.highest() - 1);
  }
  undecided_.erase(undecided_.begin(),
                   undecided_.begin() + static_cast<std::ptrdiff_t>(num_decided_));
  num_decided_ = 0;
}

void ExternalPolicy::take_prefetches(std::vector<RowId>& rows) {
  rows.insert(rows.end(), decisions_.prefetches.begin(), decisions_.prefetches.end());
  decisions_.prefetches.clear();
}

MakePolicy make_external(ExternalOptions options) {
  return [options = std::move(options)](const EvictionConfig& config, const TierTables& tables) {
    return std::make_unique<ExternalPolicy>(config, tables, options);
  };
}

}  // namespace tieralloc
