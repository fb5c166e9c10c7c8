// access_samples.hpp: recorded accesses, sample by sample as in a trace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

struct AccessSamples {
  std::vector<RowId> rows;  ///< StoreRow numbers, per sample: table by table, in order of its bags
  std::vector<std::uint32_t> lengths;  ///< rows per sample
  std::uint64_t dropped = 0;  ///< accesses that found their ring full, since the store was opened

  /// Appends the calls that an AccessRing returned. Bag b of each table of a call belongs to sample
  /// b of the call.
  void append(std::span<const std::uint64_t> words);
  void append(const AccessSamples& other);
};

/// The consumers of the access rings.
enum class AccessReader { recorder, planner };

/// A consumer's share of the rings. Both get every access: the one that pops the rings
/// leaves a copy for the other.
struct AccessQueue {
  static constexpr std::size_t kMaxRows = std::size_t{1} << 24;

  std::size_t capacity = 0;  ///< words of a ring; 0: it does not read
  AccessSamples pending;     ///< popped, not drained yet
};

}  // namespace tieralloc
