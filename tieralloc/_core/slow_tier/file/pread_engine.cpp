// pread_engine.cpp: the caller reads too, so a batch of one needs no other thread.
#include "slow_tier/file/pread_engine.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "slow_tier/file/pread.hpp"

namespace tieralloc {

struct PreadEngine::Batch {
  std::span<ReadOp> ops;
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> ended{0};
};

PreadEngine::PreadEngine(const FetchTarget& target) : target_(target) {
  // The caller reads too.
  const unsigned threads = std::clamp(target.queue_depth, 2u, kMaxReadThreads) - 1;
  try {
    for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    stop();
    throw;
  }
}

PreadEngine::~PreadEngine() {
  stop();
}

void PreadEngine::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void PreadEngine::read(std::span<ReadOp> ops, ReadListener& listener) {
  if (ops.empty()) return;
  auto batch = std::make_shared<Batch>(ops);
  if (ops.size() > 1) {
    {
      std::lock_guard lock(mutex_);
      batches_.push_back(batch);
    }
    if (ops.size() > 2) {
      wake_.notify_all();
    } else {
      wake_.notify_one();
    }
  }
  while (read_next(*batch)) listener.on_completions();
  for (std::size_t ended; (ended = batch->ended.load(std::memory_order_acquire)) < ops.size();) {
    batch->ended.wait(ended);
  }
}

/// Reads the next operation of the batch. False if there is none.
bool PreadEngine::read_next(Batch& batch) {
  const std::size_t i = batch.next.fetch_add(1, std::memory_order_relaxed);
  if (i >= batch.ops.size()) return false;
  const std::size_t size = batch.ops.size();
  read_by_pread(target_, batch.ops[i]);
  if (batch.ended.fetch_add(1, std::memory_order_acq_rel) + 1 == size) batch.ended.notify_all();
  return true;
}

void PreadEngine::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (batches_.empty()) {
      wake_.wait(lock);
      continue;
    }
    std::shared_ptr<Batch> batch = batches_.front();
    lock.unlock();
    while (read_next(*batch)) {
    }
    lock.lock();
    std::erase(batches_, batch);
  }
}

}  // namespace tieralloc
