// log_delta.cpp: deltas staged, committed, published and replayed.
#include "slow_tier/file/log_delta.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.hpp"

namespace tieralloc {
namespace {

// More rows get an index of their own beforehand, so that publication takes no time per row.
constexpr std::size_t kMaxRowsAtOnce = 1024;

std::uint64_t numbers_bytes(std::size_t rows) {
  return round_up(rows * sizeof(RowId), kCacheLine);
}

}  // namespace

std::uint64_t LogDelta::bytes_of(std::span<const DeltaPart> parts) {
  std::uint64_t bytes = 2 * sizeof(FrameHeader);  // commit and withdrawal
  for (const DeltaPart& part : parts) {
    bytes += LogSegment::frame_bytes(part.rows, part.table->stride);
  }
  return bytes;
}

LogDelta::LogDelta(RedoLog& log, std::unique_lock<std::mutex> appending,
                   std::span<const DeltaPart> parts, PositionOf position_of)
    : log_(log),
      appending_(std::move(appending)),
      position_of_(std::move(position_of)),
      generation_(log.active_for(bytes_of(parts))),
      first_frame_(generation_.segment->frames()) {
  generation_.segment->reserve_room(bytes_of(parts));
  parts_.reserve(parts.size());
}

void LogDelta::stage(const TableLayout& table, std::span<const TableRow> rows,
                     const std::byte* values) {
  if (rows.empty()) return;
  LogSegment& segment = *generation_.segment;
  const std::size_t row_bytes = table.row_bytes();
  const std::uint32_t stride = LogSegment::value_stride(table.stride);
  const std::uint64_t numbers = numbers_bytes(rows.size());
  parts_.emplace_back();
  try {
    const std::uint64_t at = segment.append(
        FrameKind::delta_rows, static_cast<std::uint32_t>(rows.size()),
        LogSegment::frame_bytes(rows.size(), table.stride) - sizeof(FrameHeader),
        position_of_(table),
        [&](std::byte* payload) {
          std::memcpy(payload, rows.data(), rows.size_bytes());
          if (values == nullptr) return;
          payload += numbers;
          for (std::size_t i = 0; i < rows.size(); ++i) {
            std::memcpy(payload + i * stride, values + i * row_bytes, row_bytes);
          }
        },
        first_frame_);
    const std::byte* payload = segment.at(at + sizeof(FrameHeader));
    parts_.back() = {.table = &table,
                     .rows = {reinterpret_cast<const TableRow*>(payload), rows.size()},
                     .values = payload + numbers,
                     .stride = stride};
  } catch (...) {
    parts_.pop_back();
    throw;
  }
}

std::size_t LogDelta::num_rows() const {
  std::size_t rows = 0;
  for (const Part& part : parts_) rows += part.rows.size();
  return rows;
}

void LogDelta::put_rows(LogIndex& index) const {
  const std::byte* const begin = generation_.segment->at(0);
  for (const Part& part : parts_) {
    auto at = static_cast<std::uint64_t>(part.values - begin);
    for (const TableRow row : part.rows) {
      index.put({part.table->address(row).offset(), at});
      at += part.stride;
    }
  }
}

void LogDelta::commit(std::uint64_t version) {
  const std::size_t rows = num_rows();
  if (rows > kMaxRowsAtOnce) {
    index_.emplace(generation_.rows.copy(rows));
    put_rows(*index_);
  } else {
    generation_.rows.reserve(rows, log_.mutex_);
  }
  LogSegment& segment = *generation_.segment;
  segment.append(
      FrameKind::delta_commit, static_cast<std::uint32_t>(parts_.size()), 0, version,
      [](std::byte*) {}, first_frame_);
  try {
    log_.sync();
  } catch (...) {
    std::lock_guard syncing(log_.sync_mutex_);
    segment.append_surely(FrameKind::delta_withdrawal, first_frame_);
    throw;
  }
  version_ = version;
}

void LogDelta::publish() noexcept {
  std::lock_guard lock(log_.mutex_);
  if (index_) {
    std::swap(generation_.rows, *index_);
  } else {
    put_rows(generation_.rows);
  }
  generation_.version = version_;
  log_.version_ = version_;
  log_.count_rows();
}

void DeltaReplay::visit(const FrameHeader& header, std::uint64_t at, const std::byte* frame) {
  const bool is_open = !frames_.empty() && frames_.front().header.delta == header.delta;
  switch (header.kind) {
    case FrameKind::delta_rows:
      apply();
      if (!is_open) frames_.clear();
      frames_.push_back({header, at, frame});
      return;
    case FrameKind::delta_commit:
      apply();
      if (!is_open) frames_.clear();  // a delta without rows
      if (header.count == frames_.size()) commit_ = header;
      return;
    case FrameKind::delta_withdrawal:
      if (commit_ && commit_->delta == header.delta) commit_.reset();
      frames_.clear();
      return;
    case FrameKind::header:
    case FrameKind::rows:
    case FrameKind::intents:
      apply();
  }
}

void DeltaReplay::apply() {
  if (!commit_) return;
  for (const Frame& frame : frames_) add_rows_(frame.header, frame.at, frame.bytes);
  version_ = commit_->detail;
  commit_.reset();
  frames_.clear();
}

std::uint64_t DeltaReplay::end() {
  apply();
  return version_;
}

}  // namespace tieralloc
