// access_samples.hpp: recorded accesses, sample by sample as in a trace.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

struct AccessSamples {
  std::vector<RowId> rows;  ///< StoreRow numbers, per sample: table by table, in order of its bags
  std::vector<std::uint32_t> lengths;  ///< rows per sample

  /// Appends the calls that an AccessRing returned. Bag b of each table of a call belongs to sample
  /// b of the call.
  void append(std::span<const std::uint64_t> words);
};

}  // namespace tieralloc
