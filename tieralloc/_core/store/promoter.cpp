// promoter.cpp: rows copied, a few for each time that a lock is held.
#include "store/promoter.hpp"

#include <algorithm>

#include "base/counters.hpp"
#include "kernels/kernels.hpp"

namespace tieralloc {
namespace {

// A tier's lock is held for so many rows at a time, some microseconds.
constexpr std::size_t kRowsPerLock = 32;

const std::byte* home_of(const FastTier& tier, TierRow row) {
  return reinterpret_cast<const std::byte*>(
      static_cast<std::uintptr_t>(tier.slow_offsets().of(row)));
}

}  // namespace

/// Returns how many were copied: a row that has a copy meanwhile, or whose copy finds no slot, is
/// passed over.
std::uint64_t Promoter::copy(FastTier& tier, std::span<const TierRow> rows, FastTier::Admit why) {
  std::uint64_t copied = 0;
  for (std::size_t at = 0; at < rows.size(); at += kRowsPerLock) {
    std::lock_guard lock(tier.mutex());
    for (const TierRow row : rows.subspan(at, std::min(kRowsPerLock, rows.size() - at))) {
      if (tier.find(row) != kAbsent) continue;
      if (why == FastTier::Admit::prefetch) tier.count_prefetch();
      copied += tier.admit(row, home_of(tier, row), why);
    }
  }
  return copied;
}

void Promoter::promote(FastTier& tier, std::span<const TierRow> rows) {
  const std::uint64_t began = now_ns();
  const std::uint64_t copied = copy(tier, rows, FastTier::Admit::on_demand);
  if (copied > 0) admission_.note_copies(copied, now_ns() - began);
}

void Promoter::prefetch(std::span<const RowPlace> rows) {
  std::vector<TierRow> of_tier;
  for (std::size_t i = 0; i < rows.size();) {
    FastTier& tier = *rows[i].tier;
    of_tier.clear();
    for (; i < rows.size() && rows[i].tier == &tier; ++i) {
      if (tier.find(rows[i].row) != kAbsent) continue;
      of_tier.push_back(rows[i].row);
      // On their way before the lock is held for them.
      prefetch_row(home_of(tier, rows[i].row), tier.stride());
    }
    pool_.emulate_latency(of_tier.size() * tier.stride() / kCacheLine);
    copy(tier, of_tier, FastTier::Admit::prefetch);
  }
}

void Promoter::pin(std::span<Miss> rows, const std::function<void()>& make_room) {
  for (Miss& row : rows) {
    while (!take_pin(row)) make_room();
  }
}

/// False where no slot is free at this moment, or the row is on its way home.
bool Promoter::take_pin(Miss& row) {
  FastTier& tier = *row.tier;
  std::lock_guard lock(tier.mutex());
  const Entry entry = tier.find(row.row);
  if (entry != kAbsent && tier.is_evicted(row.row)) return false;
  if (entry == kAbsent && !tier.admit(row.row, home_of(tier, row.row), FastTier::Admit::pin)) {
    return false;
  }
  row.pin = tier.pin(row.row) ? Miss::Pin::taken : Miss::Pin::given_back;
  return true;
}

}  // namespace tieralloc
