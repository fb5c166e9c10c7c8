// bit_tree.hpp: a set of numbers below a bound, with its maximum.
//
// Levels of bitmaps: a bit of level i + 1 is set if word i of the level below is not 0. A call
// takes one step per level: log64 of the bound. Not for concurrent use.
#pragma once

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tieralloc {

class BitTree {
 public:
  explicit BitTree(std::size_t bound) {
    do {
      bound = (bound + 63) / 64;
      levels_.emplace_back(bound, 0);
    } while (bound > 1);
  }

  bool contains(std::size_t number) const { return levels_[0][number / 64] >> (number % 64) & 1; }

  void insert(std::size_t number) {
    for (auto& level : levels_) {
      std::uint64_t& word = level[number / 64];
      const bool is_known_above = word != 0;
      word |= std::uint64_t{1} << (number % 64);
      if (is_known_above) return;
      number /= 64;
    }
  }

  void erase(std::size_t number) {
    for (auto& level : levels_) {
      std::uint64_t& word = level[number / 64];
      word &= ~(std::uint64_t{1} << (number % 64));
      if (word != 0) return;
      number /= 64;
    }
  }

  /// The largest number. Not for an empty set.
  std::size_t max() const {
    assert(levels_.back()[0] != 0);
    std::size_t number = 0;
    for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
      number = number * 64 + (63 - std::countl_zero((*level)[number]));
    }
    return number;
  }

 private:
  std::vector<std::vector<std::uint64_t>> levels_;  ///< from the numbers to a single word
};

}  // namespace tieralloc
