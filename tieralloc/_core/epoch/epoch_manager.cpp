// epoch_manager.cpp: readers claimed by compare-and-swap, epochs announced and scanned.
#include "epoch/epoch_manager.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>

namespace tieralloc {
namespace {

/// A thread starts its search for a free reader at the same place each time, so that each thread
/// settles on a reader of its own.
std::uint32_t first_choice() {
  static std::atomic<std::uint32_t> threads{0};
  thread_local const std::uint32_t own = threads.fetch_add(1, std::memory_order_relaxed);
  return own;
}

/// Completes the full barrier of an atomic exchange, which x86-64 needs no help for. It is no
/// fence, because ThreadSanitizer does not model fences.
void order_stores() {
#if defined(__aarch64__)
  __asm__ __volatile__("dmb ish" ::: "memory");
#endif
}

/// Orders the announcement of an epoch before the reads that it protects.
void store_ordered(std::atomic<std::uint64_t>& target, std::uint64_t value) {
  target.exchange(value, std::memory_order_seq_cst);
  order_stores();
}

}  // namespace

std::uint32_t EpochManager::claim() {
  for (std::uint32_t i = first_choice();; ++i) {
    const std::uint32_t index = i % kMaxReaders;
    Reader& reader = readers_[index];
    std::uint32_t free = 0;
    if (!reader.busy.compare_exchange_strong(free, 1, std::memory_order_seq_cst)) {
      if ((i + 1) % kMaxReaders == 0) std::this_thread::yield();
      continue;
    }
    std::uint32_t seen = num_readers();
    while (seen <= index &&
           !num_readers_.compare_exchange_weak(seen, index + 1, std::memory_order_seq_cst)) {
    }
    if (blocked_.load(std::memory_order_seq_cst) != 0) {
      reader.busy.store(0, std::memory_order_release);
      blocked_.wait(1);
      continue;
    }
    if (closed_.load(std::memory_order_seq_cst)) {
      reader.busy.store(0, std::memory_order_release);
      check_open();
    }
    return index;
  }
}

void EpochManager::check_open() const {
  if (!is_closed()) return;
  throw std::invalid_argument("the store is closed; open it again with TieredStore(path)");
}

void EpochManager::announce(Reader& reader) {
  store_ordered(reader.epoch, epoch_.load(std::memory_order_seq_cst));
}

std::uint64_t EpochManager::oldest_epoch() const {
  std::uint64_t oldest = epoch_.load(std::memory_order_seq_cst);
  for (std::uint32_t i = 0; i < num_readers(); ++i) {
    const std::uint64_t epoch = readers_[i].epoch.load(std::memory_order_seq_cst);
    if (epoch != 0 && epoch < oldest) oldest = epoch;
  }
  return oldest;
}

void EpochManager::wait_for_readers() {
  const std::uint64_t epoch = retire_epoch();
  order_stores();
  while (oldest_epoch() <= epoch) std::this_thread::yield();
}

ExclusiveGuard::ExclusiveGuard(EpochManager& epochs) : epochs_(epochs), lock_(epochs.exclusive_) {
  epochs_.blocked_.store(1, std::memory_order_seq_cst);
  for (const EpochManager::Reader& reader : epochs_.readers_) {
    while (reader.busy.load(std::memory_order_seq_cst) != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

ExclusiveGuard::~ExclusiveGuard() {
  epochs_.blocked_.store(0, std::memory_order_seq_cst);
  epochs_.blocked_.notify_all();
}

}  // namespace tieralloc
