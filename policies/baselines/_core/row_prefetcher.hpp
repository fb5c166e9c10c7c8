// row_prefetcher.hpp: the interface of the baseline prefetchers.
//
// A prefetcher observes accesses one by one. Of the fast tier it knows whether the accessed row was
// resident, and which rows were evicted. All memory is allocated at construction, in proportion to
// the settings; a call takes time in proportion to them at most. Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/types.hpp"

namespace tieralloc::baselines {

/// What an access found. Without prefetching the first two would both be misses: the triggering
/// events of hardware prefetchers.
enum class Found : std::uint8_t {
  on_demand,   ///< no resident row: an on-demand fetch
  prefetched,  ///< a prefetched row, at its first use
  resident,    ///< any other resident row
};

class RowPrefetcher {
 public:
  virtual ~RowPrefetcher() = default;

  /// The next accesses are of another sample.
  virtual void begin_sample() {}

  /// An access to a row below 2^48. Appends the rows to prefetch, in order; resident ones may be
  /// among them.
  virtual void observe(RowId row, Found found, std::vector<RowId>& prefetches) = 0;

  virtual void evicted(RowId row) { (void)row; }

  /// Memory allocated.
  virtual std::size_t bytes() const = 0;
};

/// A power of two, at least 1.
constexpr bool is_power_of_two(std::uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

/// Throws std::invalid_argument, naming the setting, for a value outside `min` to `max`.
void check_setting(const char* name, std::uint64_t value, std::uint64_t min, std::uint64_t max);

/// As check_setting, for a share in [0, 1].
void check_share(const char* name, double value);

}  // namespace tieralloc::baselines
