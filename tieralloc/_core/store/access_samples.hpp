// access_samples.hpp: accesses as a trace has them, sample by sample.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

struct AccessSamples {
  std::vector<RowId> rows;             ///< of each sample table after table, as its bags have them
  std::vector<std::uint32_t> lengths;  ///< rows of each sample
  std::uint64_t dropped = 0;  ///< accesses that found their ring full, since the store was opened

  /// Appends calls as an AccessRing gave them, which has bags table by table: bag b of each of a
  /// call's tables belongs to its sample b.
  void append(std::span<const std::uint64_t> words);
  void append(const AccessSamples& other);
};

/// The consumers of the access rings.
enum class AccessReader { recorder, planner };

/// A consumer's share of the rings. Both get every access: whoever pops the rings leaves a copy for
/// the other one.
struct AccessQueue {
  static constexpr std::size_t kMaxRows = std::size_t{1} << 24;

  std::size_t capacity = 0;  ///< words of a ring; 0: it does not read
  AccessSamples pending;     ///< popped, not drained yet
};

}  // namespace tieralloc
