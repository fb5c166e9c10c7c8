// log_generation.cpp: rows appended, and rows of replayed frames.
#include "slow_tier/file/log_generation.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace tieralloc {
namespace {

// Rows per lock: some microseconds.
constexpr std::size_t kRowsPerLock = 64;

bool is_frame_of(const FrameHeader& header, const std::vector<TableLayout>& tables) {
  if (header.detail >= tables.size()) return false;
  return header.bytes == LogSegment::frame_bytes(header.count, tables[header.detail].stride);
}

/// Adds the rows of a frame. False if they are not rows of the table.
bool add_rows(LogGeneration& generation, const FrameHeader& header, std::uint64_t at,
              const std::byte* frame, const TableLayout& table) {
  const std::uint64_t numbers_bytes = round_up(header.count * sizeof(RowId), kCacheLine);
  const std::uint64_t values = at + sizeof header + numbers_bytes;
  std::vector<TableRow> rows(header.count);
  std::memcpy(rows.data(), frame + sizeof header, rows.size() * sizeof(RowId));
  for (const TableRow& row : rows) {
    if (row.value >= table.rows) return false;
    generation.rows.prefetch(table.address(row).offset());
  }
  const std::uint32_t stride = LogSegment::value_stride(table.stride);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    generation.rows.put({table.address(rows[i]).offset(), values + i * stride});
  }
  return true;
}

}  // namespace

void LogGeneration::append(std::uint32_t table, const TableLayout& layout,
                           std::span<const TableRow> updated, const std::byte* values,
                           std::mutex& mutex) {
  rows.reserve(updated.size(), mutex);  // not once the frame is in the log: it may fail
  const std::uint64_t bytes = LogSegment::frame_bytes(updated.size(), layout.stride);
  const std::uint64_t numbers_bytes = round_up(updated.size() * sizeof(RowId), kCacheLine);
  const std::size_t row_bytes = layout.row_bytes();
  const std::uint32_t stride = LogSegment::value_stride(layout.stride);
  const std::uint64_t at =
      segment->append(FrameKind::rows, static_cast<std::uint32_t>(updated.size()),
                      bytes - sizeof(FrameHeader), table, [&](std::byte* payload) {
                        std::memcpy(payload, updated.data(), updated.size() * sizeof(RowId));
                        payload += numbers_bytes;
                        for (std::size_t i = 0; i < updated.size(); ++i) {
                          std::memcpy(payload + i * stride, values + i * row_bytes, row_bytes);
                        }
                      });
  const std::uint64_t first_value = at + sizeof(FrameHeader) + numbers_bytes;
  for (std::size_t i = 0; i < updated.size();) {
    std::lock_guard lock(mutex);
    for (const std::size_t end = std::min(updated.size(), i + kRowsPerLock); i < end; ++i) {
      rows.put({layout.address(updated[i]).offset(), first_value + i * stride});
    }
  }
}

void LogGeneration::add_frame(const FrameHeader& header, std::uint64_t at, const std::byte* frame,
                              const std::vector<TableLayout>& tables, std::mutex& mutex,
                              const std::string& path) {
  if (is_frame_of(header, tables)) {
    rows.reserve(header.count, mutex);
    if (add_rows(*this, header, at, frame, tables[header.detail])) return;
  }
  throw std::invalid_argument(path + ": frame at offset " + std::to_string(at) +
                              " has no rows of these tables");
}

}  // namespace tieralloc
