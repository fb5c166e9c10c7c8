// log_segment.cpp: frames that survive the end of a process, torn and damaged files, failed writes.
#include "slow_tier/file/log_segment.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.hpp"
#include "base/limits.hpp"
#include "base/types.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kId = 0xABCDEF;
constexpr std::uint64_t kCapacity = 1 << 20;

using Bytes = std::vector<std::byte>;

Bytes payload_of(std::uint64_t number, std::size_t bytes) {
  std::mt19937_64 random(number + 1);
  Bytes payload(bytes);
  for (std::byte& byte : payload) byte = static_cast<std::byte>(random());
  return payload;
}

Bytes contents(const std::string& path) {
  const OpenFile file(path, O_RDONLY);
  Bytes bytes(std::filesystem::file_size(path));
  CHECK_EQ(pread(file.fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

void put(const std::string& path, const Bytes& bytes) {
  const OpenFile file(path, O_WRONLY);
  CHECK_EQ(pwrite(file.fd(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  CHECK_EQ(ftruncate(file.fd(), static_cast<off_t>(bytes.size())), 0);
}

struct Frame {
  FrameKind kind;
  std::uint64_t at, end, detail;
  Bytes payload;
};

struct Bench {
  TempDir dir;
  std::string path = dir / "log-1";
  std::unique_ptr<LogSegment> segment = LogSegment::create(path, kId, kCapacity, 0600, 3);
  std::vector<Frame> frames;

  void append(std::size_t bytes, FrameKind kind = FrameKind::rows, std::uint64_t detail = 5) {
    const Bytes payload = payload_of(frames.size(), bytes);
    const std::uint64_t at = segment->append(kind, 1, bytes, detail, [&](std::byte* place) {
      std::copy(payload.begin(), payload.end(), place);
    });
    frames.push_back({kind, at, segment->end(), detail, payload});
  }

  /// Reads the file again; returns the number of frames after the header. Each is the appended one.
  std::size_t replay(bool writable = true) {
    segment.reset();
    std::size_t count = 0;
    segment = LogSegment::replay(path, kId, kCapacity, writable,
                                 [&](const FrameHeader& header, std::uint64_t, const std::byte*) {
                                   count += header.kind == FrameKind::header ? 0 : 1;
                                 });
    CHECK_EQ(segment->former_frames(), 3);
    CHECK_EQ(segment->frames(), count + 1);
    CHECK(count <= frames.size());
    for (std::size_t i = 0; i < count; ++i) {
      const Frame& frame = frames[i];
      CHECK(std::equal(frame.payload.begin(), frame.payload.end(),
                       segment->at(frame.at + sizeof(FrameHeader))));
    }
    CHECK_EQ(segment->end(), count == 0 ? sizeof(FrameHeader) : frames[count - 1].end);
    return count;
  }
};

TEST(log_frames_are_replayed) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Bench bench;
    std::mt19937_64 random(seed);
    for (std::size_t i = random() % 30; i > 0; --i) {
      bench.append(random() % (random() % 4 == 0 ? 20000 : 500));
      if (random() % 5 == 0) bench.segment->sync();
      if (random() % 8 == 0) CHECK_EQ(bench.replay(), bench.frames.size());
    }
    CHECK_EQ(bench.replay(random() % 2 == 0), bench.frames.size());
  }
}

TEST(log_of_another_store_is_refused) {
  Bench bench;
  bench.append(100);
  const auto replay = [&](std::uint64_t id) {
    LogSegment::replay(bench.path, id, kCapacity, true,
                       [](const FrameHeader&, std::uint64_t, const std::byte*) {});
  };
  CHECK_THROWS(std::invalid_argument, replay(kId + 1), "not the redo log of this table file");
  put(bench.path, Bytes(100));
  CHECK_THROWS(std::invalid_argument, replay(kId), "not the redo log");
  put(bench.path, {});
  CHECK_THROWS(std::invalid_argument, replay(kId), "not the redo log");
  std::filesystem::remove(bench.path);
  CHECK_THROWS(SystemFailure, replay(kId), "cannot open the redo log");
}

/// A crash may leave any part of the bytes after the last sync, and anything in place of the rest.
TEST(torn_tail_at_every_byte_ends_the_replay) {
  for (bool is_random : {false, true}) {
    Bench bench;
    bench.append(100);
    bench.segment->sync();
    bench.append(100);
    bench.append(150);
    Bytes whole = contents(bench.path);
    whole.resize(bench.frames[2].end + 500);
    std::mt19937_64 random(1);
    for (std::uint64_t length = bench.frames[1].end; length <= bench.frames[2].end; ++length) {
      Bytes torn = whole;
      for (std::size_t i = length; i < torn.size(); ++i) {
        torn[i] = is_random ? static_cast<std::byte>(random()) : std::byte{0};
      }
      put(bench.path, torn);
      const bool writable = length % 32 == 0;
      const std::size_t frames = bench.replay(writable);
      // The last bytes of the frame are zeros anyway.
      CHECK(frames == 2 || (frames == 3 && length >= bench.frames[2].at + 64 + 150));
      if (writable) CHECK_EQ(std::filesystem::file_size(bench.path), bench.segment->end());
      torn.resize(length);
      put(bench.path, torn);
      CHECK_EQ(bench.replay(false), length == bench.frames[2].end ? 3 : 2);
    }
  }
}

TEST(unsynced_frame_damaged_before_others_ends_the_replay) {
  Bench bench;
  bench.append(200);
  bench.segment->sync();
  for (int i = 0; i < 3; ++i) bench.append(300);  // none of them synced
  Bytes bytes = contents(bench.path);
  bytes[bench.frames[1].at + 100] ^= std::byte{1};
  put(bench.path, bytes);
  CHECK_EQ(bench.replay(), 1);
  // The frames that follow are gone for good: none of them continues the next one.
  bench.frames.resize(1);
  bench.append(300);
  CHECK_EQ(bench.replay(), 2);
}

TEST(every_damaged_byte_of_synced_frames_is_an_error) {
  Bench bench;
  for (int i = 0; i < 3; ++i) {
    bench.append(60);
    bench.segment->sync();
  }
  bench.append(50);  // says that the frames before it are durable
  Bytes whole = contents(bench.path);
  whole.resize(bench.frames[3].end);
  const auto replay = [&] {
    LogSegment::replay(bench.path, kId, kCapacity, false,
                       [](const FrameHeader&, std::uint64_t, const std::byte*) {});
  };
  for (std::size_t at = 64; at < bench.frames[2].end; ++at) {
    Bytes bytes = whole;
    bytes[at] ^= std::byte{16};
    put(bench.path, bytes);
    CHECK_THROWS(std::invalid_argument, replay(), "the redo log is damaged at offset");
  }
}

TEST(read_only_replay_changes_no_file) {
  Bench bench;
  for (int i = 0; i < 3; ++i) bench.append(100);
  Bytes bytes = contents(bench.path);
  bytes[bench.frames[2].at + 70] ^= std::byte{1};
  put(bench.path, bytes);
  CHECK_EQ(bench.replay(false), 2);
  CHECK(contents(bench.path) == bytes);
}

TEST(failed_append_changes_nothing) {
  for (faults::Call call : {faults::Call::write, faults::Call::reserve}) {
    Bench bench;
    bench.segment = LogSegment::create(bench.path, kId, 16 << 20, 0600, 3);
    bench.append(100);
    const std::uint64_t end = bench.segment->end();
    {
      faults::Fault fault(call, ENOSPC);
      for (int i = 0; i < 3; ++i) {
        CHECK_THROWS(SystemFailure,
                     bench.segment->append(FrameKind::rows, 1, 6 << 20, 0,  // beyond the reserve
                                           [](std::byte* place) { *place = std::byte{9}; }),
                     "No space left on device");
      }
      CHECK_EQ(fault.struck(), 3);
    }
    CHECK_EQ(bench.segment->end(), end);
    CHECK_EQ(bench.segment->frames(), 2);
    bench.append(40);
    CHECK_EQ(bench.replay(), 2);
  }
}

/// One row in each page, in few frames: the intents of all pages have room.
TEST(segment_has_room_for_an_intent_of_each_row) {
  TempDir dir;
  constexpr std::uint64_t kBytes = kLogSegmentBytes;
  const auto segment = LogSegment::create(dir / "log", kId, kBytes, 0600, 0);
  const std::size_t rows = (kBytes - 4096) / (sizeof(RowId) + 64);
  const std::uint64_t bytes = LogSegment::frame_bytes(rows, 64);
  CHECK(bytes <= segment->room());
  segment->append(FrameKind::rows, 1, bytes - sizeof(FrameHeader), 0, [](std::byte*) {});
  segment->seal();
  CHECK_EQ(segment->sealed_frames(), 2);
  for (std::size_t at = 0; at < rows; at += 2048) {
    segment->append(FrameKind::intents, 2048, 2048 * sizeof(PageFooter), 0, [](std::byte*) {});
  }
  CHECK_EQ(segment->sealed_frames(), 2);
}

TEST(frame_beyond_the_segment_is_refused) {
  Bench bench;
  CHECK(bench.segment->room() >= kCapacity);
  CHECK_THROWS(MemoryShortage,
               bench.segment->append(FrameKind::rows, 1, 4 * kCapacity, 0, [](std::byte*) {}),
               "no room for a frame");
  bench.append(100);
  CHECK_EQ(bench.replay(), 1);
}

/// The kernel drops the bytes after a failed sync: a later sync writes them again.
TEST(failed_log_sync_is_repeated_from_memory) {
  Bench bench;
  bench.append(100);
  bench.segment->sync();
  CHECK(bench.segment->unsynced_bytes() == 0);
  bench.append(300);
  {
    faults::Fault fault(faults::Call::sync, EIO);
    for (int i = 0; i < 3; ++i) {
      CHECK_THROWS(SystemFailure, bench.segment->sync(), "cannot sync the redo log");
      CHECK(bench.segment->unsynced_bytes() > 0);
    }
  }
  const OpenFile file(bench.path, O_WRONLY);
  const Bytes zeros(bench.frames[1].end - bench.frames[1].at);
  CHECK_EQ(pwrite(file.fd(), zeros.data(), zeros.size(), static_cast<off_t>(bench.frames[1].at)),
           static_cast<ssize_t>(zeros.size()));
  bench.append(200);
  {
    faults::Fault fault(faults::Call::write, EIO);
    CHECK_THROWS(SystemFailure, bench.segment->sync(), "cannot write");
  }
  bench.segment->sync();
  CHECK(bench.segment->unsynced_bytes() == 0);
  CHECK_EQ(bench.replay(), 3);
}

TEST(failed_creation_leaves_no_log_file) {
  TempDir dir;
  for (faults::Call call : {faults::Call::write, faults::Call::sync, faults::Call::reserve}) {
    faults::Fault fault(call, EIO);
    CHECK_THROWS(SystemFailure, LogSegment::create(dir / "log", kId, kCapacity, 0600, 0), "cannot");
    CHECK(!std::filesystem::exists(dir / "log"));
  }
}

/// Beside `append`, `sync` runs in another thread and no frame counts as durable too early.
TEST(log_is_synced_beside_appends) {
  Bench bench;
  Threads threads;
  threads.start([&] {
    while (!threads.stopped()) bench.segment->sync();
  });
  threads.start([&] {
    for (std::size_t i = 0; i < stressed(400); ++i) bench.append(i % 300);
    threads.stop();
  });
  threads.join();
  CHECK_EQ(bench.replay(), bench.frames.size());
}

}  // namespace
