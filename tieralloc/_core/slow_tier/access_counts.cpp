// access_counts.cpp: counting and decay.
#include "slow_tier/access_counts.hpp"

#include <algorithm>
#include <bit>

namespace tieralloc {

std::size_t AccessCounts::bytes(std::uint64_t capacity) {
  return std::max<std::size_t>(kPage, std::bit_ceil(4 * capacity));
}

AccessCounts::AccessCounts(std::uint64_t capacity)
    : memory_(bytes(capacity), "fast tier's metadata"), mask_(bytes(capacity) - 1) {}

unsigned AccessCounts::add(RowId row) {
  std::uint64_t hash = (row + 1) * 0x9E3779B97F4A7C15u;
  hash ^= hash >> 32;
  std::atomic<std::uint8_t>& one = cells()[hash & mask_];
  std::atomic<std::uint8_t>& two = cells()[(hash * 0xBF58476D1CE4E5B9u >> 32) & mask_];
  const unsigned lower =
      std::min<unsigned>(one.load(std::memory_order_relaxed), two.load(std::memory_order_relaxed));
  const unsigned count = std::min(lower + 1, kMaxCount);
  // The higher cell counts other rows too (conservative update).
  for (auto* cell : {&one, &two}) {
    if (cell->load(std::memory_order_relaxed) < count) {
      cell->store(static_cast<std::uint8_t>(count), std::memory_order_relaxed);
    }
  }
  auto& decaying = cells()[hand_.fetch_add(1, std::memory_order_relaxed) & mask_];
  decaying.store(decaying.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  return count;
}

}  // namespace tieralloc
