// async_lookups.hpp: lookups that background threads serve while their callers go on.
//
//   submit -> queue -> a thread serves the call as its own -> done -> `result`
//
// Threads are started as calls need them, up to kMaxThreads; each call waits for its own device
// batch. At most kMaxQueued calls wait for a thread; `submit` waits while there are more.
//
// Concurrency: any number of threads. The memory of a call (bag_call.hpp) must stay valid until its
// lookup is done or cancelled. A forked child lacks the threads: waiting throws there.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "store/bag_call.hpp"

namespace tieralloc {

/// A lookup in the background.
class AsyncLookup {
 public:
  explicit AsyncLookup(const BagCall& call);

  bool is_done() const;
  /// Waits until the lookup is done, or for `duration`; returns whether it is done. Throws
  /// std::invalid_argument in a forked child.
  bool wait_for(std::chrono::milliseconds duration) const;
  /// Of a lookup that is done: the number of indices out of range. Throws what the call threw, and
  /// std::invalid_argument if the lookup was cancelled.
  std::uint64_t result() const;
  /// Returns once no thread uses the memory of the call: at once, unless one serves it now.
  void cancel() noexcept;

 private:
  friend class AsyncLookups;

  enum class State { queued, running, done };

  /// False if the lookup was cancelled.
  bool begin();
  void finish(std::uint64_t outside, std::exception_ptr error);

  const BagCall call_;
  const std::uint64_t forks_at_birth_;
  mutable std::mutex mutex_;
  mutable std::condition_variable done_;
  State state_ = State::queued;
  std::uint64_t outside_ = 0;
  std::exception_ptr error_;
};

class AsyncLookups {
 public:
  static constexpr std::size_t kMaxThreads = 4;
  static constexpr std::size_t kMaxQueued = 1024;

  /// `serve` executes a call and returns its number of indices out of range.
  using Serve = std::function<std::uint64_t(const BagCall&)>;

  explicit AsyncLookups(Serve serve) : serve_(std::move(serve)) {}
  ~AsyncLookups() { stop(); }
  AsyncLookups(const AsyncLookups&) = delete;

  /// Throws std::invalid_argument after `stop`.
  std::shared_ptr<AsyncLookup> submit(const BagCall& call);
  /// Returns once all submitted calls were served. No later ones are accepted until `restart`.
  void stop();
  void restart();

 private:
  void start_thread();
  void serve_calls();
  std::shared_ptr<AsyncLookup> next();

  const Serve serve_;
  std::mutex stop_mutex_;  ///< one `stop` at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable room_;
  std::deque<std::shared_ptr<AsyncLookup>> queue_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;  ///< threads that wait for a call
  bool is_stopped_ = false;
};

}  // namespace tieralloc
