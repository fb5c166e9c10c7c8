// call_gate.hpp: who is inside the store, and what they may still be reading.
//
// A call holds a cell from its first index to its last. While it reads slots it announces, in the
// cell, the epoch in which it began (`Call::read`), and withdraws it when done or before it waits
// for a device. A slot taken out of the index is stamped with the epoch of its removal and may be
// used again once no announced epoch is as old: readers pay one store a section, nothing a row, and
// can never see a row torn (epoch-based reclamation; Fraser, "Practical lock-freedom", 2004,
// section 5.2.3).
//
// `CallGate::Exclusive` waits for every call to end and holds off new ones: for what changes the
// layout under them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/counters.hpp"
#include "base/types.hpp"

namespace tieralloc {

struct CallScratch;
class AccessRing;

struct alignas(kCacheLine) CallCell {
  CallCell();
  ~CallCell();
  std::atomic<std::uint32_t> busy{0};
  std::atomic<std::uint64_t> epoch{0};         ///< 0: reads no slot
  std::unique_ptr<CallScratch> scratch;        ///< the holder's buffers, kept from call to call
  std::unique_ptr<CallMeters> meters;          ///< written by the holder, read by all
  std::atomic<AccessRing*> accesses{nullptr};  ///< owned; pushed to by the holder; null: none yet
};

class CallGate {
 public:
  CallGate();

  class Call {
   public:
    explicit Call(CallGate& gate) : gate_(gate), cell_(gate.claim()) {}
    ~Call() {
      end_read();
      cell_.busy.store(0, std::memory_order_release);
    }
    Call(const Call&) = delete;

    /// From here to end_read, what the index names stays as it is.
    void begin_read() { gate_.announce(cell_); }
    void end_read() { cell_.epoch.store(0, std::memory_order_release); }
    CallScratch& scratch() { return *cell_.scratch; }
    CallMeters& meters() { return *cell_.meters; }
    CallCell& cell() { return cell_; }

   private:
    CallGate& gate_;
    CallCell& cell_;
  };

  /// Holds all calls off for its lifetime. Not to be asked for from inside a call.
  class Exclusive {
   public:
    explicit Exclusive(CallGate& gate);
    ~Exclusive();
    Exclusive(const Exclusive&) = delete;

   private:
    CallGate& gate_;
    std::unique_lock<std::mutex> lock_;
  };

  /// The stamp of something taken out of readers' reach just now.
  std::uint64_t retire_stamp() { return epoch_.fetch_add(1, std::memory_order_seq_cst); }

  /// What was stamped with less than this is out of every reader's hands.
  std::uint64_t oldest_read() const;

  /// Returns once every read section that began before the call has ended.
  void wait_for_reads();

  /// Lets nobody in from now on: `claim` throws std::invalid_argument.
  void close() { closed_.store(true, std::memory_order_seq_cst); }
  bool closed() const { return closed_.load(std::memory_order_acquire); }
  /// Throws std::invalid_argument once closed: for those who come in by an Exclusive.
  void check_open() const;

  /// Calls `visit` with every cell that was ever claimed.
  template <typename Visit>
  void each_cell(Visit visit) const {
    for (std::uint32_t i = 0; i < used(); ++i) visit(cells_[i]);
  }

 private:
  static constexpr std::uint32_t kCells = 64;

  CallCell& claim();
  void announce(CallCell& cell);
  std::uint32_t used() const { return used_.load(std::memory_order_acquire); }

  std::unique_ptr<CallCell[]> cells_;
  std::atomic<std::uint32_t> used_{0};  ///< cells at and above were never claimed
  std::atomic<std::uint64_t> epoch_{1};
  std::atomic<bool> closed_{false};
  std::atomic<std::uint32_t> held_{0};  ///< 1 while an Exclusive lives
  std::mutex exclusive_;
};

}  // namespace tieralloc
