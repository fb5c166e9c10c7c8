// predicted.hpp: prefetches rows predicted before the replay, access by access.
//
// For models that are evaluated in batches: their predictions depend on the accesses alone, not on
// the fast tier. Not for concurrent use.
#pragma once

#include <span>
#include <vector>

#include "row_prefetcher.hpp"

namespace tieralloc::baselines {

class Predicted final : public RowPrefetcher {
 public:
  /// Prefetches after every access, or only after those that found no row in use.
  explicit Predicted(bool all_accesses) : all_accesses_(all_accesses) {}

  /// Appends the predicted rows of the next accesses: of access `i` those from `offsets[i]` to
  /// `offsets[i + 1]`. Throws std::invalid_argument, nothing appended, for offsets that do not
  /// ascend from 0 to the number of rows.
  void append(std::span<const RowId> rows, std::span<const std::uint64_t> offsets);

  /// Throws std::runtime_error for an access without predicted rows.
  void observe(RowId row, Found found, std::vector<RowId>& prefetches) override;

  /// Without the predicted rows: a model could compute them when they are needed.
  std::size_t bytes() const override { return sizeof(*this); }

 private:
  bool all_accesses_;
  std::vector<RowId> rows_;
  std::vector<std::uint64_t> offsets_{0};
  std::size_t at_ = 0;  ///< the next access
};

}  // namespace tieralloc::baselines
