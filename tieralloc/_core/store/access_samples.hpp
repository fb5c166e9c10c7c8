// access_samples.hpp: accesses as a trace has them, sample by sample.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

struct AccessSamples {
  std::vector<RowId> rows;             ///< of each sample table after table, as its bags have them
  std::vector<std::uint32_t> lengths;  ///< rows of each sample

  /// Appends calls as an AccessRing gave them, which has bags table by table: bag b of each of a
  /// call's tables belongs to its sample b.
  void append(std::span<const std::uint64_t> words);
};

}  // namespace tieralloc
