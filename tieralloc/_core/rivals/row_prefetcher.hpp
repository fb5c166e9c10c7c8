// row_prefetcher.hpp: what chooses rows to fetch ahead from what each access found.
//
// The prefetchers that recmg is compared with, known ones from processors and simple ones: each
// sees accesses one by one, with no more of the fast tier than whether the row was there. All
// memory is taken at construction, in proportion to the settings; every call takes time in
// proportion to them at most. Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../types.hpp"

namespace tieralloc {

/// What an access found. The first two would both have been misses without prefetching: what
/// hardware prefetchers call triggering events.
enum class Found : std::uint8_t {
  on_demand,   ///< nothing: the row is fetched
  prefetched,  ///< the row, fetched ahead and not used since
  resident,    ///< the row
};

class RowPrefetcher {
 public:
  virtual ~RowPrefetcher() = default;

  /// The next accesses are of another sample.
  virtual void begin_sample() {}

  /// An access to a row below 2^48. Adds the rows to fetch to `ahead`, the first first; those that
  /// are there already need not be left out.
  virtual void observe(RowId row, Found found, std::vector<RowId>& ahead) = 0;

  /// A row left the fast tier.
  virtual void evicted(RowId row) { (void)row; }

  /// Bytes of memory taken.
  virtual std::size_t bytes() const = 0;
};

/// A power of two, at least 1.
constexpr bool is_power_of_two(std::uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

/// Throws std::invalid_argument, naming the setting, for a value outside `least` to `most`.
void check_setting(const char* name, std::uint64_t value, std::uint64_t least, std::uint64_t most);

/// As check_setting, for a share in [0, 1].
void check_share(const char* name, double value);

}  // namespace tieralloc
