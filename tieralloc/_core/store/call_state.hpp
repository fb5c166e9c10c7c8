// call_state.hpp: buffers, counters and access ring of a call, kept for the next call.
//
// Each reader of the store's EpochManager has one CallState. The thread that holds the ReadGuard
// writes to it; `counters`, `tables` and `accesses` may be read by any thread.
#pragma once

#include <atomic>
#include <memory>

#include "base/counters.hpp"
#include "base/limits.hpp"
#include "epoch/epoch_manager.hpp"
#include "store/access_ring.hpp"
#include "store/call_scratch.hpp"
#include "store/table_counters.hpp"

namespace tieralloc {

struct alignas(kCacheLine) CallState {
  CallState() = default;
  ~CallState() { delete accesses.load(); }
  CallState(const CallState&) = delete;

  CallScratch scratch;
  CallCounters counters;
  TableCounterSet tables;                      ///< counters by table
  std::atomic<AccessRing*> accesses{nullptr};  ///< owned; null: not recorded yet
};

class CallStates {
 public:
  explicit CallStates(const EpochManager& epochs)
      : epochs_(epochs), states_(std::make_unique<CallState[]>(kMaxReaders)) {}

  CallState& of(const ReadGuard& guard) { return states_[guard.index()]; }

  /// Calls `visit` with the state of every reader that was ever claimed.
  template <typename Visit>
  void each(Visit visit) const {
    for (std::uint32_t i = 0; i < epochs_.num_readers(); ++i) visit(states_[i]);
  }

 private:
  const EpochManager& epochs_;
  std::unique_ptr<CallState[]> states_;
};

}  // namespace tieralloc
