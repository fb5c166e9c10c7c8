// admission.hpp: whether copies of rows that could as well be read in place are worth having.
//
// A copy costs its copying, and the search for copies costs every lookup something; each later use
// saves what a row of the slow tier takes beyond one of the fast tier. Two rules follow.
//  - A row is copied once reading it in place has cost as much beyond a hit as its copy will: buy
//    when the rent paid comes to the price (Karlin, Manasse, Rudolph and Sleator, "Competitive
//    snoopy caching", Algorithmica 3, 1988), which is never more than twice the best in hindsight.
//    What both take is measured: rows when the store opens, copies as they are made.
//  - Now and then lookups are timed with copies and without, in turns; what was faster stays until
//    the next trial, and trials become rare. So a fast tier that does not pay, for whatever reason,
//    costs the trials and nothing else. Where the slow tier takes no longer than the fast one there
//    is no trial and no copy.
//
// Any number of threads.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// What random rows take, nanoseconds a cache line, as many under way as in a lookup.
struct LineCosts {
  double slow_ns = 0;
  double fast_ns = 0;
};

enum class AdmissionRule { automatic, always, never };

struct AdmissionView {
  AdmissionRule rule = AdmissionRule::automatic;
  bool admits = true;
  std::uint64_t trials = 0;
  double with_copies_ns = 0, in_place_ns = 0;  ///< a lookup, in the last trial; 0: none yet
  double copy_ns = 0;                          ///< a row; 0: none yet
  LineCosts costs;
};

class Admission {
 public:
  Admission(AdmissionRule rule, const LineCosts& costs);

  /// Begins anew, for fast tiers of so many rows altogether; with none nothing is ever copied.
  void begin(std::uint64_t capacity);

  /// Whether lookups search for copies, and make some.
  bool admits() const { return admits_.load(std::memory_order_relaxed); }

  /// Tells what a call took that began when `admits` was `admitting`.
  void note_call(bool admitting, std::uint64_t rows, std::uint64_t ns);

  /// Tells what it took to copy so many rows.
  void note_copies(std::uint64_t rows, std::uint64_t ns);

  /// What so many cache lines take in the slow tier beyond what they would in the fast one.
  std::uint64_t ns_in_place(std::size_t lines) const;

  /// Accesses in the slow tier after which a row of so many cache lines is copied.
  unsigned accesses_needed(std::size_t lines) const;

  AdmissionView view() const;

 private:
  enum class Phase { warming, trying, holding };

  bool worth_trying() const;
  void turn();
  void try_window(double ns);
  void decide();
  void hold(bool admits, std::uint64_t rows);
  void enter(Phase phase, bool admits, std::uint64_t rows);

  const AdmissionRule rule_;
  const LineCosts costs_;
  std::atomic<bool> admits_{true};
  std::atomic<std::uint64_t> rows_{0}, ns_{0};  ///< of the calls of this phase's window
  std::atomic<std::uint64_t> due_{0};           ///< rows that end it
  std::atomic<double> copy_ns_{0};

  mutable std::mutex mutex_;
  Phase phase_ = Phase::warming;
  std::uint64_t warm_rows_ = 0;
  std::uint64_t hold_rows_ = 0;
  std::size_t window_ = 0;  ///< of the trial
  std::array<double, 10> took_{};
  std::uint64_t trials_ = 0;
  double with_copies_ns_ = 0, in_place_ns_ = 0;
};

}  // namespace tieralloc
