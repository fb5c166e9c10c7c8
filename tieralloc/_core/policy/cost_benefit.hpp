// cost_benefit.hpp: cost-benefit controller: pauses a learned policy that costs more than it saves.
//
//   at the end of each window of lookups:
//     saved = seconds that calls waited for the slow tier * share of the fetches of the best simple
//             policy that the learned policy avoids
//     cost  = CPU seconds of the policy * kSecondsPerCpuSecond
//     if saved < cost: pause for a number of windows, by exponential back-off
// The first window after a start warms the policy up and is ignored. Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

#include "policy/back_off.hpp"

namespace tieralloc {

class CostBenefit {
 public:
  /// Min lookups per window.
  static constexpr std::uint64_t kWindow = 1 << 18;
  /// Serving seconds lost per CPU second of a background thread: cores share memory and caches.
  static constexpr double kSecondsPerCpuSecond = 0.25;

  struct Usage {
    std::uint64_t lookups = 0;
    double waited = 0;  ///< seconds of all calls together
    double cpu = 0;     ///< seconds of the policy
  };

  /// Starts a warm-up window.
  void begin(const Usage& now) {
    begin_ = now;
    is_warm_up_ = true;
  }

  bool is_due(const Usage& now) const { return now.lookups - begin_.lookups >= kWindow; }

  /// Ends a window; returns the lookups to pause for, 0 for no pause. `avoided` is the share of the
  /// fetches of the best simple policy that the learned policy avoids.
  std::uint64_t end_window(const Usage& now, double avoided) {
    const Usage before = begin_;
    const bool was_warm_up = is_warm_up_;
    begin_ = now;
    is_warm_up_ = false;
    if (was_warm_up || now.lookups < before.lookups || now.waited < before.waited) return 0;
    spent_ = now.cpu - before.cpu;
    saved_ = (now.waited - before.waited) * std::max(0.0, avoided);
    if (saved_ >= spent_ * kSecondsPerCpuSecond) {
      back_off_.succeed();
      return 0;
    }
    ++pauses_;
    return (now.lookups - before.lookups) * back_off_.fail();
  }

  double saved() const { return saved_; }
  double spent() const { return spent_; }
  std::uint64_t pauses() const { return pauses_; }

 private:
  BackOff back_off_{16, 2048};  // windows
  Usage begin_;
  bool is_warm_up_ = true;
  double saved_ = 0;
  double spent_ = 0;
  std::uint64_t pauses_ = 0;
};

}  // namespace tieralloc
