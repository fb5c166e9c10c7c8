// bit_tree.cpp: BitTree against std::set.
#include "sim/bit_tree.hpp"

#include <random>
#include <set>

#include "check.hpp"

namespace {

using tieralloc::BitTree;

void compare_with_set(std::size_t bound, int steps) {
  std::mt19937_64 random(bound);
  BitTree tree(bound);
  std::set<std::size_t> set;
  for (int step = 0; step < steps; ++step) {
    const std::size_t number = random() % bound;
    // Alternating runs of insertions and erasures fill and empty the tree.
    if (step / 500 % 2 == 0) {
      tree.insert(number);
      set.insert(number);
    } else if (!set.empty()) {
      const std::size_t erased = random() % 2 == 0 ? *set.rbegin() : number;
      tree.erase(erased);
      set.erase(erased);
    }
    CHECK_EQ(tree.contains(number), set.contains(number));
    if (!set.empty()) CHECK_EQ(tree.max(), *set.rbegin());
  }
}

TEST(bit_tree_random_calls_match_set) {
  for (std::size_t bound : {1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 262144, 262145, 1000000}) {
    compare_with_set(bound, 4000);
  }
}

TEST(bit_tree_filled_has_the_max_below_its_bound) {
  constexpr std::size_t kBound = 4097;
  BitTree tree(kBound);
  for (std::size_t i = 0; i < kBound; ++i) tree.insert(i);
  for (std::size_t i = kBound; i-- > 1;) {
    CHECK_EQ(tree.max(), i);
    tree.erase(i);
  }
  CHECK_EQ(tree.max(), 0);
}

}  // namespace
