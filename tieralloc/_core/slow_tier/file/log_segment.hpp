// log_segment.hpp: one file of the redo log, and its image in memory.
//
//   segment  header frame, then row frames and deltas; once sealed, intent frames
//   frame    FrameHeader; payload; zeros up to a multiple of 64 bytes
//   rows     row numbers (8 bytes each), zeros up to a multiple of 64; values, `value_stride`
//            bytes each
//   delta    frames of rows, then a commit; perhaps its withdrawal (log_delta.hpp)
//   intents  the footers of pages that are about to be written
//
// A frame of rows is one update call: it counts as a whole or not at all. Frames are numbered from
// 0. The memory has the bytes of the file: a write or sync that failed is repeated from it.
//
// Replay reads what is on the disk, not what the kernel holds for it. It stops at the first frame
// that is invalid. That is the end of the log if the frame was never synced; a later frame that
// says it was proves damage.
//
// Concurrency: the caller serialises `append` with itself, and `sync` with itself. Bytes below
// `end` do not change.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/memory.hpp"
#include "slow_tier/page.hpp"

namespace tieralloc {

enum class FrameKind : std::uint32_t {
  header = 1,
  rows = 2,
  intents = 3,
  delta_rows = 4,
  delta_commit = 5,
  delta_withdrawal = 6,
};

struct FrameHeader {
  static constexpr std::uint32_t kMagic = 0x474F4C54;  // "TLOG"

  std::uint32_t magic = kMagic;
  std::uint32_t checksum = 0;  ///< CRC-32C of the frame without these two fields
  FrameKind kind = FrameKind::header;
  std::uint32_t count = 0;    ///< rows or footers; of a commit: frames of the delta
  std::uint64_t bytes = 0;    ///< of the frame, with this header
  std::uint64_t segment = 0;  ///< store id ^ number of the segment
  std::uint64_t number = 0;   ///< of the frame, from 0
  std::uint64_t synced = 0;   ///< frames before this one known to be durable
  /// Rows: the table's position. Header: frames of the segment before this one, without intents.
  /// Commit: the version.
  std::uint64_t detail = 0;
  std::uint64_t delta = 0;  ///< number of the delta's first frame
};
static_assert(sizeof(FrameHeader) == 64);

class SegmentReader;

class LogSegment {
 public:
  /// Bytes of a frame of rows.
  static std::uint64_t frame_bytes(std::size_t rows, std::uint32_t stride);
  /// Bytes from one value to the next in a frame, for rows of a stride. The memory of a segment has
  /// room for a footer per value of at least a cache line.
  static std::uint32_t value_stride(std::uint32_t stride) {
    return std::max<std::uint32_t>(stride, kCacheLine);
  }

  /// Makes a durable file for `capacity` bytes of frames, in `memory` if that is large enough.
  /// Throws SystemFailure.
  static std::unique_ptr<LogSegment> create(const std::string& path, std::uint64_t id,
                                            std::uint64_t capacity, unsigned permissions,
                                            std::uint64_t former_frames, Region memory = {});

  /// Reads a file; `visit` receives each valid frame in order. To write on, the file is cut at the
  /// end of its last frame. Throws SystemFailure, and std::invalid_argument for a damaged file.
  using Visit =
      std::function<void(const FrameHeader& header, std::uint64_t at, const std::byte* frame)>;
  static std::unique_ptr<LogSegment> replay(const std::string& path, std::uint64_t id,
                                            std::uint64_t capacity, bool writable,
                                            const Visit& visit);

  ~LogSegment();
  LogSegment(const LogSegment&) = delete;

  const std::string& path() const { return path_; }
  std::uint64_t end() const { return end_.load(std::memory_order_acquire); }
  std::uint64_t frames() const { return frames_; }
  std::uint64_t former_frames() const { return former_frames_; }
  std::uint64_t room() const { return end() < capacity_ ? capacity_ - end() : 0; }
  bool has_rows() const { return frames_ > 1; }
  const std::byte* at(std::uint64_t offset) const { return memory_.data() + offset; }

  /// Appends a frame whose payload `fill` writes; it starts as zeros. Returns its offset. Throws
  /// SystemFailure, changing nothing.
  std::uint64_t append(FrameKind kind, std::uint32_t count, std::uint64_t payload_bytes,
                       std::uint64_t detail, const std::function<void(std::byte*)>& fill,
                       std::uint64_t delta = 0);
  /// Appends a frame without payload, not concurrently with `sync`. If the frame cannot be written,
  /// the next sync writes it.
  void append_surely(FrameKind kind, std::uint64_t delta);
  /// Reserves disk blocks for so many bytes of further frames. Throws SystemFailure.
  void reserve_room(std::uint64_t bytes) { reserve(end() + bytes); }

  /// No rows follow; intents do.
  void seal() { sealed_frames_ = frames_.load(); }
  /// Frames before the intents.
  std::uint64_t sealed_frames() const { return sealed_frames_; }

  /// Returns when all frames are durable. Throws SystemFailure; the frames are written again then.
  void sync();
  std::uint64_t unsynced_bytes() const {
    const std::uint64_t synced = synced_.load();  // before `end`, which is never behind it
    return std::max(end(), synced) - synced;
  }

  /// The memory, without which the segment is of no further use.
  Region take_memory() { return std::move(memory_); }

  /// Removes the file's name.
  void remove() const;

 private:
  LogSegment(std::string path, int fd, std::uint64_t id, std::uint64_t capacity,
             Region memory = {});

  std::uint64_t compose(FrameHeader header, const std::function<void(std::byte*)>& fill);
  void count_frame(std::uint64_t bytes);
  void reserve(std::uint64_t end);
  void start_writing();
  bool is_valid_frame(std::uint64_t at, std::uint64_t size, FrameHeader& header,
                      SegmentReader& reader) const;
  void check_damage(std::uint64_t at, std::uint64_t size, std::uint64_t number,
                    SegmentReader& reader) const;

  const std::string path_;
  const int fd_;
  const std::uint64_t id_;
  const std::uint64_t capacity_;  ///< bytes of header and row frames
  Region memory_;
  std::atomic<std::uint64_t> end_{0};
  std::atomic<std::uint64_t> frames_{0};
  std::uint64_t former_frames_ = 0;
  std::uint64_t sealed_frames_ = 0;
  std::uint64_t reserved_ = 0;  ///< size of the file
  std::uint64_t started_ = 0;   ///< bytes before it are on their way to the disk
  std::atomic<std::uint64_t> synced_{0};
  std::atomic<std::uint64_t> synced_frames_{0};
  bool is_suspect_ = false;  ///< a sync failed: the kernel may have dropped bytes after `synced_`
};

}  // namespace tieralloc
