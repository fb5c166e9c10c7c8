// epoch_manager.hpp: epoch-based reclamation (Fraser, "Practical lock-freedom", 2004, 5.2.3).
//
// A thread holds a ReadGuard for the length of a call. While it reads shared objects it announces
// the current epoch (`begin_read`); it withdraws the epoch (`end_read`) when it is done, and before
// it waits for a device. An object that was removed from readers' reach is retired in an epoch.
// It may be reused once `oldest_epoch()` is higher: then no reader can hold it.
//
//   reader: announce(epoch); find object; read it; withdraw
//   writer: remove object; e = retire_epoch(); ...; reuse it if e < oldest_epoch()
//
// An ExclusiveGuard waits for all ReadGuards to end and blocks new ones, for changes of the layout.
//
// Concurrency: any number of threads; kMaxReaders guards at a time, further ones wait.
// Cost: one ordered store per read section; `oldest_epoch` scans the readers.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/limits.hpp"
#include "base/types.hpp"

namespace tieralloc {

class EpochManager {
 public:
  /// Ends the current epoch and returns it, as the epoch of an object removed just now.
  std::uint64_t retire_epoch() { return epoch_.fetch_add(1, std::memory_order_seq_cst); }

  /// The oldest epoch in which a reader may still read.
  std::uint64_t oldest_epoch() const;

  /// Returns once every read section that began before this call has ended.
  void wait_for_readers();

  /// From now on ReadGuard throws std::invalid_argument.
  void close() { closed_.store(true, std::memory_order_seq_cst); }
  bool is_closed() const { return closed_.load(std::memory_order_acquire); }
  /// Throws std::invalid_argument if closed. For holders of an ExclusiveGuard.
  void check_open() const;

  /// Every ReadGuard so far had an `index()` below this.
  std::uint32_t num_readers() const { return num_readers_.load(std::memory_order_acquire); }

 private:
  friend class ReadGuard;
  friend class ExclusiveGuard;

  struct alignas(kCacheLine) Reader {
    std::atomic<std::uint32_t> busy{0};
    std::atomic<std::uint64_t> epoch{0};  ///< 0: outside a read section
  };

  std::uint32_t claim();
  void announce(Reader& reader);

  std::array<Reader, kMaxReaders> readers_;
  std::atomic<std::uint32_t> num_readers_{0};
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<bool> closed_{false};
  std::atomic<std::uint32_t> blocked_{0};  ///< 1 while an ExclusiveGuard lives
  std::mutex exclusive_;
};

/// One reader, from construction to destruction. Used by one thread.
class ReadGuard {
 public:
  explicit ReadGuard(EpochManager& epochs)
      : epochs_(epochs), index_(epochs.claim()), reader_(epochs.readers_[index_]) {}
  ~ReadGuard() {
    end_read();
    reader_.busy.store(0, std::memory_order_release);
  }
  ReadGuard(const ReadGuard&) = delete;

  /// Objects found from here to `end_read` keep their content.
  void begin_read() { epochs_.announce(reader_); }
  void end_read() { reader_.epoch.store(0, std::memory_order_release); }

  /// Below kMaxReaders, and that of no other living guard: a place for the caller's own state.
  std::uint32_t index() const { return index_; }

 private:
  EpochManager& epochs_;
  const std::uint32_t index_;
  EpochManager::Reader& reader_;
};

/// The only guard, from construction to destruction. A thread that holds a ReadGuard must not make
/// one.
class ExclusiveGuard {
 public:
  explicit ExclusiveGuard(EpochManager& epochs);
  ~ExclusiveGuard();
  ExclusiveGuard(const ExclusiveGuard&) = delete;

 private:
  EpochManager& epochs_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace tieralloc
