// file_delta.cpp: the beginning of a delta of a file.
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/log_delta.hpp"

namespace tieralloc {

std::unique_ptr<StagedDelta> FilePool::begin_delta(std::span<const DeltaPart> parts) {
  check_writable();
  checked_size();
  permit_deltas();
  const std::uint64_t bytes = LogDelta::bytes_of(parts);
  while (true) {
    {
      std::unique_lock appending(append_mutex_);
      if (!log_->is_full(bytes)) {
        auto delta =
            std::make_unique<LogDelta>(*log_, std::move(appending), parts,
                                       [this](const TableLayout& t) { return position_of(t); });
        wake_if_sealed();
        return delta;
      }
    }
    write_back_sealed();
  }
}

/// Earlier releases would skip the frames of deltas: from now on they refuse the file.
void FilePool::permit_deltas() {
  std::lock_guard lock(directory_mutex_);
  file_format::Directory next = superblocks_.directory();
  if (next.has_deltas) return;
  next.has_deltas = true;
  superblocks_.write(std::move(next));
}

}  // namespace tieralloc
