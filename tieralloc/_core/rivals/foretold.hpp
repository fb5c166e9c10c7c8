// foretold.hpp: fetches what somebody else worked out beforehand, access by access.
//
// For models that are asked in batches: what they say of an access follows from it and from those
// before it, and not from the fast tier. Not for concurrent use.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "row_prefetcher.hpp"

namespace tieralloc {

class Foretold final : public RowPrefetcher {
 public:
  /// Fetches after every access, or after those that found no row in use.
  explicit Foretold(bool all_accesses) : all_accesses_(all_accesses) {}

  /// Says what to fetch after each of the next accesses: after number `i`, those of the rows from
  /// `offsets[i]` to `offsets[i + 1]`. Throws std::invalid_argument, forgetting nothing, for
  /// offsets that do not ascend from 0 to the number of rows.
  void tell(std::span<const RowId> rows, std::span<const std::uint64_t> offsets);

  /// Throws std::runtime_error for an access of which nothing was told.
  void observe(RowId row, Found found, std::vector<RowId>& ahead) override;

  /// What was told is no state: it could be worked out when it is needed.
  std::size_t bytes() const override { return sizeof(*this); }

 private:
  bool all_accesses_;
  std::vector<RowId> rows_;
  std::vector<std::uint64_t> offsets_{0};
  std::size_t at_ = 0;  ///< the next access
};

}  // namespace tieralloc
