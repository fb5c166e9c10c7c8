// prefetch_queue.hpp: rows that somebody asked to have fetched, waiting for a background thread.
// Bounded: what does not fit is dropped and counted, because a prefetch is a hint. Any number of
// threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "store/fetcher.hpp"

namespace tieralloc {

class PrefetchQueue {
 public:
  explicit PrefetchQueue(std::size_t most) : most_(most) {}

  /// Returns how many rows were taken.
  std::size_t push(std::span<const RowPlace> rows) {
    std::size_t taken = 0;
    {
      std::lock_guard lock(mutex_);
      const std::size_t room = most_ - std::min(most_, rows_.size());
      taken = std::min(room, rows.size());
      rows_.insert(rows_.end(), rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(taken));
      dropped_ += rows.size() - taken;
    }
    if (taken > 0) wake_.notify_one();
    return taken;
  }

  /// Waits until there are rows; false once the queue is stopped.
  bool wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopped_ || !rows_.empty(); });
    return !stopped_;
  }

  /// Takes up to `most` rows, none where there are none.
  std::vector<RowPlace> take(std::size_t most) {
    std::lock_guard lock(mutex_);
    const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(std::min(most, rows_.size()));
    std::vector<RowPlace> rows(rows_.begin(), end);
    rows_.erase(rows_.begin(), end);
    return rows;
  }

  void clear() {
    std::lock_guard lock(mutex_);
    rows_.clear();
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    wake_.notify_all();
  }

  std::uint64_t dropped() {
    std::lock_guard lock(mutex_);
    return dropped_;
  }
  void clear_dropped() {
    std::lock_guard lock(mutex_);
    dropped_ = 0;
  }

 private:
  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<RowPlace> rows_;
  std::uint64_t dropped_ = 0;
  bool stopped_ = false;
};

}  // namespace tieralloc
