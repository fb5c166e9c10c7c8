// promoter.cpp: rows copied, a few per lock.
#include "store/promoter.hpp"

#include <algorithm>
#include <thread>
#include <vector>

#include "base/counters.hpp"
#include "kernels/kernels.hpp"

namespace tieralloc {
namespace {

const std::byte* slow_row(const FastTier& tier, TierRow row) {
  return reinterpret_cast<const std::byte*>(
      static_cast<std::uintptr_t>(tier.slow_offsets().of(row).offset()));
}

}  // namespace

/// Returns the number of rows copied. Skips rows that have a copy by now or get no slot.
std::uint64_t Promoter::copy(FastTier& tier, std::span<const TierRow> rows,
                             FastTier::Admit reason) {
  std::uint64_t copied = 0;
  for (std::size_t at = 0; at < rows.size(); at += kRowsPerLock) {
    std::lock_guard lock(tier.mutex());
    for (const TierRow row : rows.subspan(at, std::min(kRowsPerLock, rows.size() - at))) {
      if (tier.find(row) != kAbsent) continue;
      if (reason == FastTier::Admit::prefetch) {
        tier.count_prefetch();
        tier.count_prefetch_read();
      }
      copied += tier.admit(row, slow_row(tier, row), reason);
    }
  }
  return copied;
}

void Promoter::promote(FastTier& tier, std::span<const TierRow> rows) {
  const std::uint64_t began = now_ns();
  const std::uint64_t copied = copy(tier, rows, FastTier::Admit::on_demand);
  if (copied > 0) policy_.record_copies(copied, now_ns() - began);
}

void Promoter::prefetch(std::span<const RowPlace> rows) {
  std::vector<TierRow> absent;
  for (std::size_t i = 0; i < rows.size();) {
    FastTier& tier = *rows[i].tier;
    absent.clear();
    for (; i < rows.size() && rows[i].tier == &tier; ++i) {
      if (tier.find(rows[i].row) != kAbsent) continue;
      absent.push_back(rows[i].row);
      // Loads the row before the lock is taken.
      prefetch_row(slow_row(tier, rows[i].row), tier.stride());
    }
    pool_.emulate_latency(absent.size() * tier.lines());
    copy(tier, absent, FastTier::Admit::prefetch);
  }
}

void Promoter::pin(std::span<Miss> rows) {
  for (Miss& row : rows) {
    while (!take_pin(row)) std::this_thread::yield();
  }
}

/// False if no slot is free now, or the row is being updated.
bool Promoter::take_pin(Miss& row) {
  FastTier& tier = *row.tier;
  std::lock_guard lock(tier.mutex());
  if (tier.is_staged(row.row)) return false;
  if (tier.find(row.row) == kAbsent &&
      !tier.admit(row.row, slow_row(tier, row.row), FastTier::Admit::pin)) {
    return false;
  }
  row.pin = tier.pin(row.row) ? Miss::Pin::taken : Miss::Pin::released;
  return true;
}

}  // namespace tieralloc
