// call_scratch.cpp: the set of misses, and the release of large buffers.
#include "store/call_scratch.hpp"

#include <algorithm>

namespace tieralloc {
namespace {

// Above the needs of usual calls. Applies to each buffer of each of kMaxReaders states.
constexpr std::size_t kMaxKeptBytes = std::size_t{1} << 20;

template <typename T>
void release_if_large(std::vector<T>& buffer) {
  if (buffer.capacity() * sizeof(T) > kMaxKeptBytes) std::vector<T>().swap(buffer);
}

}  // namespace

std::size_t MissSet::place_of(const FastTier* tier, TierRow row) const {
  const std::size_t mask = table_.size() - 1;
  const std::uint64_t key = row.value ^ (reinterpret_cast<std::uintptr_t>(tier) << 20);
  std::size_t place = (key * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (table_[place] != 0) {
    const Miss& miss = rows[table_[place] - 1];
    if (miss.row == row && miss.tier == tier) break;
    place = (place + 1) & mask;
  }
  return place;
}

std::uint32_t MissSet::add(FastTier* tier, TierRow row, TableCounters* counters) {
  if (rows.size() * 2 >= table_.size()) grow();
  std::uint32_t& place = table_[place_of(tier, row)];
  if (place == 0) {
    rows.push_back({.tier = tier, .row = row, .counters = counters, .batch = nullptr});
    place = static_cast<std::uint32_t>(rows.size());
  }
  return place - 1;
}

void MissSet::grow() {
  table_.assign(table_.empty() ? 64 : table_.size() * 2, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    table_[place_of(rows[i].tier, rows[i].row)] = static_cast<std::uint32_t>(i + 1);
  }
}

std::size_t MissSet::bytes() const {
  return rows.capacity() * sizeof(Miss) + table_.capacity() * sizeof(std::uint32_t);
}

void MissSet::clear() {
  if (rows.empty()) return;
  std::fill(table_.begin(), table_.end(), 0u);
  rows.clear();
}

/// Requires an empty set.
void MissSet::trim() {
  release_if_large(rows);
  release_if_large(table_);
}

void CallScratch::trim() {
  release_if_large(rows);
  release_if_large(entries);
  release_if_large(pointers);
  release_if_large(touched);
  release_if_large(touched_at);
  release_if_large(saturated);
  release_if_large(lengths);
  release_if_large(weights);
  misses.trim();
  release_if_large(deferred);
  release_if_large(deferred_rows);
  release_if_large(deferred_weights);
}

}  // namespace tieralloc
