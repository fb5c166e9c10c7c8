// row_prefetcher.hpp: the interface of the baseline prefetchers.
//
// A prefetcher observes accesses one by one, with their results, and evictions. All memory is
// allocated at construction, in proportion to the settings; so is the max time of a call. Not for
// concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"

namespace tieralloc::baselines {

/// The result of an access. Without prefetching the first two would be misses: the triggers of
/// hardware prefetchers.
enum class AccessResult : std::uint8_t {
  on_demand,   ///< an on-demand fetch
  prefetched,  ///< the first use of a prefetched row
  resident,    ///< any other hit
};

class RowPrefetcher {
 public:
  virtual ~RowPrefetcher() = default;

  /// Starts the next sample.
  virtual void begin_sample() {}

  /// Observes an access to a row below 2^48. Appends the rows to prefetch, in order; resident rows
  /// may be among them.
  virtual void observe(RowId row, AccessResult result, std::vector<RowId>& prefetches) = 0;

  /// Observes the eviction of a row.
  virtual void evicted(RowId row) { (void)row; }

  /// Bytes of memory.
  virtual std::size_t bytes() const = 0;
};

/// Throws std::invalid_argument, naming the setting, for a value outside [min, max].
void check_setting(const char* name, std::uint64_t value, std::uint64_t min, std::uint64_t max);

/// As check_setting, for a share in [0, 1].
void check_share(const char* name, double value);

}  // namespace tieralloc::baselines
