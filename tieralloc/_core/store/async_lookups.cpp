// async_lookups.cpp: the queue, its threads, the end of a lookup, and the store's call.
#include "store/async_lookups.hpp"

#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/fork_guard.hpp"
#include "store/store.hpp"

namespace tieralloc {

AsyncLookup::AsyncLookup(const BagCall& call) : call_(call), forks_at_birth_(fork_count()) {}

bool AsyncLookup::is_done() const {
  std::lock_guard lock(mutex_);
  return state_ == State::done;
}

bool AsyncLookup::wait_for(std::chrono::milliseconds duration) const {
  if (fork_count() != forks_at_birth_) {
    throw std::invalid_argument(
        "wait: the lookup belongs to the parent process; expected one of this process");
  }
  std::unique_lock lock(mutex_);
  return done_.wait_for(lock, duration, [&] { return state_ == State::done; });
}

std::uint64_t AsyncLookup::result() const {
  std::lock_guard lock(mutex_);
  if (error_ != nullptr) std::rethrow_exception(error_);
  return outside_;
}

void AsyncLookup::cancel() noexcept {
  if (fork_count() != forks_at_birth_) return;
  std::unique_lock lock(mutex_);
  if (state_ == State::queued) {
    state_ = State::done;
    error_ = std::make_exception_ptr(std::invalid_argument("wait: the lookup was cancelled"));
    done_.notify_all();
  }
  done_.wait(lock, [&] { return state_ == State::done; });
}

bool AsyncLookup::begin() {
  std::lock_guard lock(mutex_);
  if (state_ != State::queued) return false;
  state_ = State::running;
  return true;
}

void AsyncLookup::finish(std::uint64_t outside, std::exception_ptr error) {
  std::lock_guard lock(mutex_);
  outside_ = outside;
  error_ = std::move(error);
  state_ = State::done;
  done_.notify_all();
}

std::shared_ptr<AsyncLookup> AsyncLookups::submit(const BagCall& call) {
  auto lookup = std::make_shared<AsyncLookup>(call);
  {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return is_stopped_ || queue_.size() < kMaxQueued; });
    if (is_stopped_)
      throw std::invalid_argument("the store is closed; open it again with TieredStore(path)");
    if (queue_.size() >= idle_ && threads_.size() < kMaxThreads) start_thread();
    queue_.push_back(lookup);
  }
  wake_.notify_one();
  return lookup;
}

/// Locked. Throws std::system_error if the only thread cannot be started.
void AsyncLookups::start_thread() {
  try {
    threads_.emplace_back([this] { serve_calls(); });
  } catch (const std::system_error&) {
    if (threads_.empty()) throw;
  }
}

void AsyncLookups::serve_calls() {
  while (const std::shared_ptr<AsyncLookup> lookup = next()) {
    if (!lookup->begin()) continue;
    try {
      lookup->finish(serve_(lookup->call_), nullptr);
    } catch (...) {
      lookup->finish(0, std::current_exception());
    }
  }
}

/// Null once stopped, and the queue is empty.
std::shared_ptr<AsyncLookup> AsyncLookups::next() {
  std::unique_lock lock(mutex_);
  ++idle_;
  wake_.wait(lock, [&] { return is_stopped_ || !queue_.empty(); });
  --idle_;
  if (queue_.empty()) return nullptr;
  std::shared_ptr<AsyncLookup> lookup = std::move(queue_.front());
  queue_.pop_front();
  room_.notify_one();
  return lookup;
}

void AsyncLookups::stop() {
  std::lock_guard stopping(stop_mutex_);
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    is_stopped_ = true;
    threads.swap(threads_);
  }
  wake_.notify_all();
  room_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void AsyncLookups::restart() {
  std::lock_guard lock(mutex_);
  is_stopped_ = false;
}

std::shared_ptr<AsyncLookup> Store::submit(const BagCall& call) {
  check_fork();
  validate(call);
  epochs_.check_open();
  for (const TableSegment& segment : call.segments) check_live(*segment.table);
  return async_lookups_.submit(call);
}

}  // namespace tieralloc
