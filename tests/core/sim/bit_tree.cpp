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
    // Long runs of insertions and of erasures fill and empty the tree in turn.
    if (step / 500 % 2 == 0) {
      tree.insert(number);
      set.insert(number);
    } else if (!set.empty()) {
      const std::size_t gone = random() % 2 == 0 ? *set.rbegin() : number;
      tree.erase(gone);
      set.erase(gone);
    }
    CHECK_EQ(tree.contains(number), set.contains(number));
    if (!set.empty()) CHECK_EQ(tree.greatest(), *set.rbegin());
  }
}

TEST(bit_tree_is_a_set_that_knows_its_greatest) {
  for (std::size_t bound : {1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 262144, 262145, 1000000}) {
    compare_with_set(bound, 4000);
  }
}

TEST(bit_tree_holds_every_number_below_its_bound) {
  constexpr std::size_t kBound = 4097;
  BitTree tree(kBound);
  for (std::size_t i = 0; i < kBound; ++i) tree.insert(i);
  for (std::size_t i = kBound; i-- > 1;) {
    CHECK_EQ(tree.greatest(), i);
    tree.erase(i);
  }
  CHECK_EQ(tree.greatest(), 0);
}

}  // namespace
