#include "predicted.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tieralloc::baselines {

void Predicted::append(std::span<const RowId> rows, std::span<const std::uint64_t> offsets) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != rows.size() ||
      !std::is_sorted(offsets.begin(), offsets.end())) {
    throw std::invalid_argument("offsets: expected to ascend from 0 to " +
                                std::to_string(rows.size()) + ", the number of rows");
  }
  // Drops what past accesses had.
  rows_.erase(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(offsets_[at_]));
  const std::uint64_t gone = offsets_[at_];
  offsets_.erase(offsets_.begin(), offsets_.begin() + static_cast<std::ptrdiff_t>(at_));
  for (std::uint64_t& offset : offsets_) offset -= gone;
  at_ = 0;
  const std::uint64_t before = rows_.size();
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  for (const std::uint64_t offset : offsets.subspan(1)) offsets_.push_back(before + offset);
}

void Predicted::observe(RowId, Found found, std::vector<RowId>& prefetches) {
  if (at_ + 1 >= offsets_.size()) throw std::runtime_error("this access has no predicted rows");
  const auto begin = rows_.begin() + static_cast<std::ptrdiff_t>(offsets_[at_]);
  const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(offsets_[at_ + 1]);
  ++at_;
  if (all_accesses_ || found != Found::resident) prefetches.insert(prefetches.end(), begin, end);
}

}  // namespace tieralloc::baselines
