// scored.cpp: ScoredPolicy against what it is told to do.
#include "eviction/scored.hpp"

#include <algorithm>

#include "check.hpp"

namespace {

using namespace tieralloc;

/// Scores rows by their numbers, and remembers what it was asked.
class ByNumber final : public RowScorer {
 public:
  void score(std::span<const RowId> rows, float* scores) override {
    asked.assign(rows.begin(), rows.end());
    std::transform(rows.begin(), rows.end(), scores,
                   [](RowId row) { return static_cast<float>(row); });
    ++calls;
  }
  std::vector<RowId> asked;
  int calls = 0;
};

ScoredPolicy with_rows(std::uint32_t slots, std::uint32_t candidates, std::uint32_t victims) {
  ScoredPolicy policy({.capacity = slots, .slots = slots, .seed = 1}, candidates, victims);
  for (Slot slot = 0; slot < slots; ++slot) policy.insert(slot, 100 + slot);
  return policy;
}

TEST(the_lowest_scores_of_those_drawn_leave_in_order_before_anybody_is_asked_again) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(200, 32, 4);
  policy.set_scorer(&scorer);
  for (int round = 1; round <= 20; ++round) {
    std::vector<Slot> left;
    for (int i = 0; i < 4; ++i) left.push_back(policy.evict());
    CHECK_EQ(scorer.calls, round);
    std::vector<RowId> lowest = scorer.asked;
    CHECK(lowest.size() <= 32 && lowest.size() > 20);
    std::sort(lowest.begin(), lowest.end());
    for (int i = 0; i < 4; ++i) CHECK_EQ(100 + left[i], lowest[i]);
  }
}

TEST(rows_are_drawn_evenly) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(50, 8, 1);
  policy.set_scorer(&scorer);
  std::vector<int> drawn(50);
  for (int round = 0; round < 5000; ++round) {
    const Slot left = policy.evict();
    for (const RowId row : scorer.asked) ++drawn[row - 100];
    policy.insert(left, 100 + left);
  }
  const auto [least, most] = std::minmax_element(drawn.begin(), drawn.end());
  CHECK(*least > 600 && *most < 900);  // about 745 each, with a deviation of 25
}

TEST(an_advised_row_that_is_accessed_dropped_or_replaced_is_advised_no_more) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(4, 64, 4);  // all are drawn and advised
  policy.set_scorer(&scorer);
  CHECK_EQ(policy.evict(), 0);
  const Slot hit = 1;
  policy.touch({&hit, 1});
  CHECK_EQ(policy.evict(), 2);
  policy.remove(3);
  policy.insert(3, 7);
  CHECK_EQ(scorer.calls, 1);
  CHECK_EQ(policy.evict(), 3);  // asked again: now the lowest
  CHECK_EQ(scorer.calls, 2);
  policy.move(1, 0);
  CHECK_EQ(policy.evict(), 0);
  CHECK_EQ(policy.evict(), kNoSlot);
}

TEST(with_nobody_to_score_the_least_recently_used_leaves) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(4, 4, 2);
  const std::vector<Slot> hits{0, 2, 3};
  policy.touch(hits);
  CHECK_EQ(policy.evict(), 1);
  CHECK_EQ(policy.evict(), 0);
  policy.set_scorer(&scorer);
  CHECK_EQ(policy.evict(), 2);
  policy.set_scorer(nullptr);
  policy.touch(hits);  // of which two are not held
  CHECK_EQ(policy.evict(), 3);
  CHECK_EQ(scorer.calls, 1);
}

TEST(policies_of_no_victims_or_too_many_are_refused) {
  CHECK_THROWS(std::invalid_argument, with_rows(4, 4, 0), "victims are 0");
  CHECK_THROWS(std::invalid_argument, with_rows(4, 4, 5), "at most the 4 candidates");
}

}  // namespace
