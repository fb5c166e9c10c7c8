// overlay.cpp: one segment, opened under a lock.
#include "slow_tier/checkpoint/overlay.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "base/error.hpp"
#include "base/fork_guard.hpp"
#include "base/limits.hpp"
#include "slow_tier/file/file_io.hpp"
#include "slow_tier/file/lock_holder.hpp"

namespace tieralloc {
namespace {

/// FNV-1a.
std::uint64_t mix_bytes(std::uint64_t hash, const void* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    hash = (hash ^ static_cast<const unsigned char*>(bytes)[i]) * 0x100000001B3u;
  }
  return hash;
}

std::uint64_t tables_id(const std::vector<TableLayout>& tables, std::uint64_t hash) {
  for (const TableLayout& table : tables) {
    const std::uint64_t shape[] = {table.rows, table.dim, static_cast<std::uint64_t>(table.dtype)};
    hash = mix_bytes(hash, table.name.c_str(), table.name.size() + 1);
    hash = mix_bytes(hash, shape, sizeof shape);
  }
  return hash;
}

}  // namespace

Overlay::Overlay(const std::string& path, const std::vector<TableLayout>& tables,
                 std::uint64_t files_id)
    : path_(path), lock_fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (lock_fd_ < 0) fail_io(errno, path_, "cannot open the overlay");
  close_in_child(lock_fd_);
  try {
    open_segment(tables, tables_id(tables, files_id));
  } catch (...) {
    forget_in_child(lock_fd_);
    close(lock_fd_);
    throw;
  }
}

Overlay::~Overlay() {
  forget_in_child(lock_fd_);
  close(lock_fd_);
}

void Overlay::open_segment(const std::vector<TableLayout>& tables, std::uint64_t id) {
  if (flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    const int code = errno;
    throw SystemFailure(code,
                        "overlay is open in another store: " + describe_lock_holders(lock_fd_) +
                            "; close that one first",
                        path_);
  }
  // A file without a whole frame is that of a process that ended while it made the overlay.
  if (size_of_file(lock_fd_, path_) < sizeof(FrameHeader)) {
    generation_.segment = LogSegment::create(path_, id, kLogSegmentBytes, 0666, 0);
    return;
  }
  try {
    generation_.segment = LogSegment::replay(
        path_, id, kLogSegmentBytes, true,
        [&](const FrameHeader& header, std::uint64_t at, const std::byte* frame) {
          if (header.kind != FrameKind::rows) return;
          generation_.add_frame(header, at, frame, tables, rows_mutex_, path_);
        });
  } catch (const std::invalid_argument& refusal) {
    throw std::invalid_argument("overlay: not one of these tables, or damaged: " +
                                std::string(refusal.what()));
  }
  num_rows_ = generation_.rows.size();
}

void Overlay::update(std::uint32_t table, const TableLayout& layout, std::span<const TableRow> rows,
                     const std::byte* values) {
  std::lock_guard updating(update_mutex_);
  const std::uint64_t bytes = LogSegment::frame_bytes(rows.size(), layout.stride);
  if (generation_.segment->room() < bytes) {
    throw SystemFailure(ENOSPC,
                        "overlay is full: " + std::to_string(generation_.segment->end()) + " of " +
                            std::to_string(kLogSegmentBytes) + " bytes, no room for " +
                            std::to_string(bytes) + "; write its rows to a new checkpoint",
                        path_);
  }
  generation_.append(table, layout, rows, values, rows_mutex_);
  num_rows_.store(generation_.rows.size(), std::memory_order_release);
}

bool Overlay::find(std::uint64_t offset, std::span<std::byte> value) const {
  std::lock_guard lock(rows_mutex_);
  const std::byte* found = generation_.find(offset);
  if (found != nullptr) std::memcpy(value.data(), found, value.size());
  return found != nullptr;
}

void Overlay::sync() {
  std::lock_guard syncing(sync_mutex_);
  generation_.segment->sync();
}

UpdateStats Overlay::stats() const {
  UpdateStats stats;
  std::lock_guard lock(rows_mutex_);
  stats.dirty_rows = generation_.rows.size();
  stats.log_bytes = generation_.segment->end() + generation_.rows.bytes();
  stats.unsynced_bytes = generation_.segment->unsynced_bytes();
  return stats;
}

}  // namespace tieralloc
