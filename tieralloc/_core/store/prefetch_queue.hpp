// prefetch_queue.hpp: rows to prefetch, waiting for a background thread.
//
// Bounded: rows that do not fit are dropped and counted, because a prefetch is a hint. Any number
// of threads.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "store/fetcher.hpp"

namespace tieralloc {

class PrefetchQueue {
 public:
  explicit PrefetchQueue(std::size_t max_rows) : max_rows_(max_rows) {}

  /// Returns the number of rows queued.
  std::size_t push(std::span<const RowPlace> rows) {
    std::size_t queued = 0;
    {
      std::lock_guard lock(mutex_);
      const std::size_t room = max_rows_ - std::min(max_rows_, rows_.size());
      queued = std::min(room, rows.size());
      rows_.insert(rows_.end(), rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(queued));
      dropped_ += rows.size() - queued;
    }
    if (queued > 0) wake_.notify_one();
    return queued;
  }

  /// Waits for rows. False once the queue is stopped.
  bool wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopped_ || !rows_.empty(); });
    return !stopped_;
  }

  /// Removes up to `max_rows` rows; returns at once if there are none.
  std::vector<RowPlace> take(std::size_t max_rows) {
    std::lock_guard lock(mutex_);
    const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(std::min(max_rows, rows_.size()));
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
  const std::size_t max_rows_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<RowPlace> rows_;
  std::uint64_t dropped_ = 0;
  bool stopped_ = false;
};

}  // namespace tieralloc
