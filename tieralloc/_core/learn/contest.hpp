// contest.hpp: who of several contenders should be in charge, going by what each would have missed.
//
// Leads over who is in charge are added up, never below nothing (a cumulative sum: Page,
// "Continuous inspection schemes", Biometrika 1954): however far ahead whoever is in charge was
// before, once it falls behind it costs no more than patience allows. Not for concurrent use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tieralloc {

/// Who would have missed less by a smaller share does not gain on who is in charge.
inline constexpr double kContestMargin = 0.01;
/// Misses of the sample by which somebody has to lead beyond that to take over.
inline constexpr double kContestPatience = 24;
/// Times as many, for one that does not know which rows the tier holds.
inline constexpr double kContestChangeover = 4;

class Contest {
 public:
  /// Of contenders from 0 on, at least one.
  Contest(std::size_t contenders, std::size_t in_charge)
      : leads_(contenders), in_charge_(in_charge) {}

  std::size_t in_charge() const { return in_charge_; }

  /// A contender would have missed so many less than who is in charge, or more.
  void gain(std::size_t contender, double misses) {
    leads_[contender] = std::max(0.0, leads_[contender] + misses);
  }

  /// What a contender gained counts no more.
  void forget(std::size_t contender) { leads_[contender] = 0; }

  /// Puts who leads by the most for its patience in charge, if anybody leads by more than that;
  /// returns whether it did. `patience(contender)` is in misses.
  template <typename Patience>
  bool decide(Patience patience) {
    std::size_t next = in_charge_;
    double most = 1;
    for (std::size_t i = 0; i < leads_.size(); ++i) {
      const double share = leads_[i] / patience(i);
      if (share <= most) continue;
      next = i;
      most = share;
    }
    if (next == in_charge_) return false;
    in_charge_ = next;
    std::fill(leads_.begin(), leads_.end(), 0);
    return true;
  }

 private:
  std::vector<double> leads_;  ///< misses by which each leads, since it last began to
  std::size_t in_charge_;
};

}  // namespace tieralloc
