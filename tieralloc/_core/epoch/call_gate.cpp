// call_gate.cpp: cells claimed by compare-and-swap, epochs announced and scanned.
#include "epoch/call_gate.hpp"

#include <chrono>
#include <stdexcept>
#include <thread>

#include "store/access_ring.hpp"
#include "store/call_scratch.hpp"

namespace tieralloc {
namespace {

/// A thread starts its search for a free cell where it found its last one, so threads settle on
/// cells of their own.
std::uint32_t first_choice() {
  static std::atomic<std::uint32_t> threads{0};
  thread_local const std::uint32_t own = threads.fetch_add(1, std::memory_order_relaxed);
  return own;
}

/// Behind an atomic exchange: a full barrier, which that is on x86-64. No fence, which
/// ThreadSanitizer does not model.
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

CallCell::CallCell()
    : scratch(std::make_unique<CallScratch>()), meters(std::make_unique<CallMeters>()) {}
CallCell::~CallCell() {
  delete accesses.load();
}

CallGate::CallGate() : cells_(std::make_unique<CallCell[]>(kCells)) {}

CallCell& CallGate::claim() {
  for (std::uint32_t i = first_choice();; ++i) {
    CallCell& cell = cells_[i % kCells];
    std::uint32_t free = 0;
    if (!cell.busy.compare_exchange_strong(free, 1, std::memory_order_seq_cst)) {
      if ((i + 1) % kCells == 0) std::this_thread::yield();
      continue;
    }
    std::uint32_t seen = used();
    while (seen <= i % kCells &&
           !used_.compare_exchange_weak(seen, i % kCells + 1, std::memory_order_seq_cst)) {
    }
    if (held_.load(std::memory_order_seq_cst) != 0) {
      cell.busy.store(0, std::memory_order_release);
      held_.wait(1);
      continue;
    }
    if (closed_.load(std::memory_order_seq_cst)) {
      cell.busy.store(0, std::memory_order_release);
      check_open();
    }
    return cell;
  }
}

void CallGate::check_open() const {
  if (!closed()) return;
  throw std::invalid_argument("the store is closed; open it again with TieredStore(path)");
}

void CallGate::announce(CallCell& cell) {
  store_ordered(cell.epoch, epoch_.load(std::memory_order_seq_cst));
}

std::uint64_t CallGate::oldest_read() const {
  std::uint64_t oldest = epoch_.load(std::memory_order_seq_cst);
  for (std::uint32_t i = 0; i < used(); ++i) {
    const std::uint64_t epoch = cells_[i].epoch.load(std::memory_order_seq_cst);
    if (epoch != 0 && epoch < oldest) oldest = epoch;
  }
  return oldest;
}

void CallGate::wait_for_reads() {
  const std::uint64_t stamp = retire_stamp();
  order_stores();
  while (oldest_read() <= stamp) std::this_thread::yield();
}

CallGate::Exclusive::Exclusive(CallGate& gate) : gate_(gate), lock_(gate.exclusive_) {
  gate_.held_.store(1, std::memory_order_seq_cst);
  for (std::uint32_t i = 0; i < kCells; ++i) {
    while (gate_.cells_[i].busy.load(std::memory_order_seq_cst) != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

CallGate::Exclusive::~Exclusive() {
  gate_.held_.store(0, std::memory_order_seq_cst);
  gate_.held_.notify_all();
}

}  // namespace tieralloc
