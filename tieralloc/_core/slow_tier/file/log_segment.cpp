// log_segment.cpp: frames appended, synced and replayed.
#include "slow_tier/file/log_segment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <limits>
#include <stdexcept>
#include <utility>

#include "base/crc32c.hpp"
#include "base/error.hpp"
#include "base/fork_guard.hpp"
#include "slow_tier/file/direct_io.hpp"
#include "slow_tier/file/file_io.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kReserveBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kWriteOutBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kReplayBytes = std::uint64_t{4} << 20;
// Header, a footer for the page of each row, and frame headers of the intents.
constexpr std::uint64_t kSpareBytes = std::uint64_t{1} << 20;

std::uint32_t frame_checksum(const std::byte* frame, std::uint64_t bytes) {
  constexpr std::size_t kSkipped = 2 * sizeof(std::uint32_t);
  return crc32c(frame + kSkipped, bytes - kSkipped);
}

/// Memory of a segment: its frames, and one intent for each of its rows.
std::uint64_t memory_bytes(std::uint64_t capacity) {
  constexpr std::uint64_t kMinRowBytes = sizeof(RowId) + kCacheLine;
  return capacity + capacity / kMinRowBytes * sizeof(PageFooter) + kSpareBytes;
}

}  // namespace

/// Reads a file in order, past the page cache if possible; the next part while one is used.
class SegmentReader {
 public:
  SegmentReader(int fd, std::byte* memory, std::uint64_t size, std::string path)
      : fd_(fd),
        direct_fd_(open_for_reads(fd, path, true, false).fd),
        memory_(memory),
        size_(size),
        path_(std::move(path)) {
    begin();
  }
  ~SegmentReader() {
    if (next_.valid()) next_.wait();
    close(direct_fd_);
  }
  SegmentReader(const SegmentReader&) = delete;

  /// Returns when the bytes before `end` are in memory. Throws SystemFailure.
  void read(std::uint64_t end) {
    while (have_ < end) {
      next_.get();
      have_ = std::min(have_ + kReplayBytes, size_);
      begin();
    }
  }

 private:
  void begin() {
    if (have_ == size_) return;
    next_ = std::async(std::launch::async, [this, at = have_] {
      const std::uint64_t length = std::min(kReplayBytes, size_ - at);
      const std::uint64_t pages = length / kPage * kPage;
      read_up_to(direct_fd_, {memory_ + at, pages}, at, path_);
      read_up_to(fd_, {memory_ + at + pages, length - pages}, at + pages, path_);
    });
  }

  const int fd_;
  const int direct_fd_;
  std::byte* const memory_;
  const std::uint64_t size_;
  const std::string path_;
  std::uint64_t have_ = 0;
  std::future<void> next_;
};

std::uint64_t LogSegment::frame_bytes(std::size_t rows, std::uint32_t stride) {
  return sizeof(FrameHeader) + round_up(rows * sizeof(RowId), kCacheLine) +
         round_up(std::uint64_t{rows} * value_stride(stride), kCacheLine);
}

LogSegment::LogSegment(std::string path, int fd, std::uint64_t id, std::uint64_t capacity,
                       Region memory)
    : path_(std::move(path)), fd_(fd), id_(id), capacity_(capacity), memory_(std::move(memory)) {
  const std::uint64_t bytes = memory_bytes(capacity);
  if (memory_.size() < bytes) memory_ = Region(bytes, "redo log", Filled::gradual);
  close_in_child(fd_);
}

LogSegment::~LogSegment() {
  forget_in_child(fd_);
  close(fd_);
}

std::unique_ptr<LogSegment> LogSegment::create(const std::string& path, std::uint64_t id,
                                               std::uint64_t capacity, unsigned permissions,
                                               std::uint64_t former_frames, Region memory) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                      static_cast<mode_t>(permissions));
  if (fd < 0) fail_io(errno, path, "cannot create the redo log");
  std::unique_ptr<LogSegment> segment(
      new LogSegment(path, fd, id, capacity + sizeof(FrameHeader), std::move(memory)));
  try {
    segment->append(FrameKind::header, 0, 0, former_frames, [](std::byte*) {});
    segment->sync();
    sync_directory_of(path);
  } catch (...) {
    unlink(path.c_str());
    throw;
  }
  return segment;
}

/// Reserves disk blocks up to `end` and a while further, so that the file's size seldom changes.
void LogSegment::reserve(std::uint64_t end) {
  if (end <= reserved_) return;
  const std::uint64_t size = round_up(end, kReserveBytes);
  if (fallocate(fd_, 0, static_cast<off_t>(reserved_), static_cast<off_t>(size - reserved_)) == 0) {
    reserved_ = size;
  } else if (errno != EOPNOTSUPP && errno != ENOSYS) {
    fail_io(errno, path_, "cannot grow the redo log");
  }
}

std::uint64_t LogSegment::append(FrameKind kind, std::uint32_t count, std::uint64_t payload_bytes,
                                 std::uint64_t detail, const std::function<void(std::byte*)>& fill,
                                 std::uint64_t delta) {
  const std::uint64_t at = end();
  FrameHeader header{.kind = kind, .count = count};
  header.bytes = round_up(sizeof header + payload_bytes, kCacheLine);
  header.detail = detail;
  header.delta = delta;
  if (at + header.bytes > memory_.size()) {
    throw MemoryShortage("the redo log has no room for a frame of " + std::to_string(header.bytes) +
                         " bytes");
  }
  reserve(at + header.bytes);
  const std::uint64_t bytes = compose(header, fill);
  write_fully(fd_, {this->at(at), bytes}, at, path_);
  count_frame(bytes);
  start_writing();
  return at;
}

void LogSegment::append_surely(FrameKind kind, std::uint64_t delta) {
  const std::uint64_t at = end();
  FrameHeader header{.kind = kind, .bytes = sizeof header, .delta = delta};
  const std::uint64_t bytes = compose(header, [](std::byte*) {});
  try {
    write_fully(fd_, {this->at(at), bytes}, at, path_);
  } catch (const SystemFailure&) {
    is_suspect_ = true;
  }
  count_frame(bytes);
}

/// Makes a frame in memory, at the end; returns its bytes.
std::uint64_t LogSegment::compose(FrameHeader header, const std::function<void(std::byte*)>& fill) {
  header.segment = id_;
  header.number = frames_;
  header.synced = synced_frames_;
  std::byte* frame = memory_.data() + end();
  std::memset(frame, 0, header.bytes);
  fill(frame + sizeof header);
  std::memcpy(frame, &header, sizeof header);
  header.checksum = frame_checksum(frame, header.bytes);
  std::memcpy(frame, &header, sizeof header);
  return header.bytes;
}

void LogSegment::count_frame(std::uint64_t bytes) {
  end_.store(end() + bytes, std::memory_order_release);
  ++frames_;
}

/// Lets the kernel write bytes to the disk in small parts: a sync of many at once would hold up the
/// reads of lookups.
void LogSegment::start_writing() {
  const std::uint64_t bytes = end() - started_;
  if (bytes < kWriteOutBytes) return;
  sync_file_range(fd_, static_cast<off_t>(started_), static_cast<off_t>(bytes),
                  SYNC_FILE_RANGE_WRITE);  // a failure shows at the sync
  started_ = end();
}

void LogSegment::sync() {
  const std::uint64_t frames = frames_;  // before `end`, which is never behind it
  const std::uint64_t end = this->end();
  if (synced_ == end && !is_suspect_) return;
  // After a failed sync the kernel takes the bytes for clean, whether they are on the disk or not.
  if (is_suspect_) write_fully(fd_, {at(synced_), end - synced_}, synced_, path_);
  if (fdatasync(fd_) != 0) {
    is_suspect_ = true;
    fail_io(errno, path_, "cannot sync the redo log");
  }
  is_suspect_ = false;
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);  // the memory has the bytes
  synced_ = end;
  synced_frames_ = frames;
}

void LogSegment::remove() const {
  unlink(path_.c_str());
}

bool LogSegment::is_valid_frame(std::uint64_t at, std::uint64_t size, FrameHeader& header,
                                SegmentReader& reader) const {
  if (at + sizeof header > size) return false;
  reader.read(at + sizeof header);
  std::memcpy(&header, this->at(at), sizeof header);
  if (header.magic != FrameHeader::kMagic || header.segment != id_ ||
      header.bytes < sizeof header || header.bytes % kCacheLine != 0 || header.bytes > size - at) {
    return false;
  }
  reader.read(at + header.bytes);
  return header.checksum == frame_checksum(this->at(at), header.bytes);
}

/// Throws if a frame after `at` says that frame `number`, which is invalid, was durable.
void LogSegment::check_damage(std::uint64_t at, std::uint64_t size, std::uint64_t number,
                              SegmentReader& reader) const {
  for (std::uint64_t next = at; next + sizeof(FrameHeader) <= size; next += kCacheLine) {
    FrameHeader header;
    std::memcpy(&header, this->at(next), sizeof header);
    if (header.magic != FrameHeader::kMagic || header.number < number) continue;
    if (!is_valid_frame(next, size, header, reader) || header.synced <= number) continue;
    throw std::invalid_argument(path_ + ": the redo log is damaged at offset " +
                                std::to_string(at) + " (frame " + std::to_string(number) +
                                "); updates after it cannot be replayed");
  }
}

std::unique_ptr<LogSegment> LogSegment::replay(const std::string& path, std::uint64_t id,
                                               std::uint64_t capacity, bool writable,
                                               const Visit& visit) {
  const int fd = open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) {
    fail_io(errno, path, "cannot open the redo log, which has updates of the table file");
  }
  std::uint64_t size = 0;
  std::unique_ptr<LogSegment> segment;
  try {
    size = size_of_file(fd, path);
    segment.reset(new LogSegment(path, fd, id, std::max(capacity, size) + sizeof(FrameHeader)));
  } catch (...) {
    if (segment == nullptr) close(fd);
    throw;
  }
  if (writable && fdatasync(fd) != 0) fail_io(errno, path, "cannot sync the redo log");
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  SegmentReader reader(fd, segment->memory_.data(), size, path);
  FrameHeader header;
  std::uint64_t at = 0;
  for (; segment->is_valid_frame(at, size, header, reader) && header.number == segment->frames_;
       at += header.bytes) {
    if (header.number == 0) segment->former_frames_ = header.detail;
    visit(header, at, segment->at(at));
    ++segment->frames_;
  }
  if (segment->frames_ == 0) {
    throw std::invalid_argument(path + ": not the redo log of this table file, or damaged");
  }
  reader.read(size);
  segment->check_damage(at, size, segment->frames_, reader);
  segment->end_ = segment->synced_ = at;
  segment->synced_frames_ = segment->frames_.load();
  segment->seal();
  std::memset(segment->memory_.data() + at, 0, size - at);
  segment->reserved_ = at;
  // Bytes after the end could continue a later frame.
  if (writable && (ftruncate(fd, static_cast<off_t>(at)) != 0 || fdatasync(fd) != 0)) {
    fail_io(errno, path, "cannot cut the redo log");
  }
  return segment;
}

}  // namespace tieralloc
