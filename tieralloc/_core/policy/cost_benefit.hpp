// cost_benefit.hpp: whether a learned policy should pause, because it costs more than it saves.
//
//   saved = seconds that calls waited for the slow tier * share of fetches that it avoids beyond
//           the best simple policy
//   cost  = CPU seconds of the policy * kSecondsPerCpuSecond
// It is judged window by window of accesses, but not by the first one after a start, in which it
// learns what it missed. A pause lasts a number of windows, by exponential back-off. Not for
// concurrent use.
#pragma once

#include <algorithm>
#include <cstdint>

#include "policy/back_off.hpp"

namespace tieralloc {

class CostBenefit {
 public:
  /// Lookups of a window.
  static constexpr std::uint64_t kWindow = 1 << 18;
  /// Seconds of serving lost per CPU second of a thread beside it: cores share memory and caches.
  static constexpr double kSecondsPerCpuSecond = 0.25;

  struct Usage {
    std::uint64_t lookups = 0;
    double waited = 0;  ///< seconds, of all calls together
    double cpu = 0;     ///< seconds, of the policy
  };

  /// Begins a window that is not judged.
  void begin(const Usage& now) {
    begin_ = now;
    learns_ = true;
  }

  bool is_due(const Usage& now) const { return now.lookups - begin_.lookups >= kWindow; }

  /// Ends a window; returns for how many lookups to pause, 0 to go on. `avoided` is the share of
  /// the fetches that the policy avoids beyond the best simple one.
  std::uint64_t judge(const Usage& now, double avoided) {
    const Usage before = begin_;
    const bool learned = learns_;
    begin_ = now;
    learns_ = false;
    if (learned || now.lookups < before.lookups || now.waited < before.waited) return 0;
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
  bool learns_ = true;
  double saved_ = 0;
  double spent_ = 0;
  std::uint64_t pauses_ = 0;
};

}  // namespace tieralloc
