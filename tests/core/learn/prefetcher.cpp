// prefetcher.cpp: Successors and Prefetcher where there is too much of everything.
#include "learn/prefetcher.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "check.hpp"
#include "split_mix.hpp"

namespace {

using namespace tieralloc;

TEST(candidates_are_rows_that_were_there_and_never_the_one_accessed_or_just_seen_beside_it) {
  for (const std::uint32_t capacity : {1u, 7u, 5000u}) {
    Successors successors(capacity);
    SplitMix64 random(capacity);
    std::vector<RowId> recent;
    std::size_t found = 0;
    // Samples of up to 6000 rows vote for more than there is room for.
    for (int sample = 0; sample < 40; ++sample) {
      successors.begin_sample();
      recent.clear();
      for (std::uint32_t left = random.below(sample % 4 == 0 ? 6000 : 50); left > 0; --left) {
        const RowId row = kMostLoggedRows - 1 - random.below(4000) * RowId{1'000'000'007};
        const auto candidates = successors.observe(row);
        found += candidates.size();
        CHECK(candidates.size() <= kSuccessors);
        const std::size_t window = std::min(recent.size(), kPairWindow);
        for (const Candidate& candidate : candidates) {
          CHECK(candidate.row != row && candidate.row < kMostLoggedRows);
          CHECK_EQ((kMostLoggedRows - 1 - candidate.row) % 1'000'000'007, 0);
          const auto beside = std::find(recent.end() - static_cast<std::ptrdiff_t>(window),
                                        recent.end(), candidate.row);
          CHECK(beside == recent.end());
          for (const float feature : candidate.features) CHECK(std::isfinite(feature));
        }
        recent.push_back(row);
      }
    }
    CHECK(capacity < 5000 || found > 1000);
  }
}

/// Of rows 0 … pairs-1, each is followed by the one that is `pairs` above it.
Prefetcher that_knows(std::uint32_t pairs) {
  Prefetcher prefetcher(100'000, 0.5f);
  for (int times = 0; times < 2; ++times) {
    for (RowId row = 0; row < pairs; ++row) {
      prefetcher.begin_sample();
      prefetcher.observe(row);
      prefetcher.observe(row + pairs);
    }
  }
  prefetcher.take_candidates();
  return prefetcher;
}

TEST(of_too_many_candidates_those_that_came_last_are_taken) {
  constexpr std::uint32_t kPairs = 20000;
  Prefetcher prefetcher = that_knows(kPairs);
  for (const std::uint32_t asked : {10u, 4096u, 4097u, 8192u, 8193u, kPairs}) {
    for (RowId row = 0; row < asked; ++row) {
      prefetcher.begin_sample();
      prefetcher.observe(row);
    }
    const auto taken = prefetcher.take_candidates();
    const std::uint32_t count = std::min(asked, 4096u);
    CHECK_EQ(taken.size(), count);
    for (std::uint32_t i = 0; i < count; ++i) CHECK_EQ(taken[i].row, kPairs + asked - count + i);
    CHECK(prefetcher.take_candidates().empty());
  }
}

TEST(each_candidate_comes_once_with_the_last_that_was_said_of_it) {
  Prefetcher prefetcher(100, 0.5f);
  for (int times = 0; times < 3; ++times) {
    prefetcher.begin_sample();
    for (const RowId row : {1, 2, 9}) prefetcher.observe(row);
  }
  prefetcher.take_candidates();
  prefetcher.begin_sample();
  prefetcher.observe(1);
  prefetcher.observe(2);
  const auto taken = prefetcher.take_candidates();
  CHECK_EQ(taken.size(), 2);
  CHECK_EQ(taken[0].row, 2);  // by 1, before it was asked for
  CHECK_EQ(taken[1].row, 9);
  CHECK_EQ(taken[1].features[8], 2);  // voters
}

TEST(what_it_learned_without_candidates_it_knows_when_it_is_asked_for_them) {
  constexpr std::uint32_t kPairs = 300;
  Prefetcher observer(100'000, 0.5f), learner(100'000, 0.5f);
  std::vector<RowId> rows;
  for (int times = 0; times < 2; ++times) {
    for (RowId row = 0; row < kPairs; ++row) rows.insert(rows.end(), {row, row + kPairs});
  }
  const std::vector<std::uint32_t> lengths(rows.size() / 2, 2);
  observer.observe(rows, lengths);
  learner.observe(rows, lengths);  // candidates that are dropped
  CHECK(!observer.take_candidates().empty());
  observer.observe(rows, lengths);
  learner.learn(rows, lengths);
  observer.take_candidates();
  CHECK(learner.take_candidates().empty());
  const RowId asked[] = {7};
  const std::uint32_t one[] = {1};
  observer.observe(asked, one);
  learner.observe(asked, one);
  const auto expected = observer.take_candidates();
  const auto found = learner.take_candidates();
  CHECK(!expected.empty());
  CHECK_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK_EQ(found[i].row, expected[i].row);
    CHECK(found[i].features == expected[i].features);
  }
}

TEST(a_copy_goes_its_own_way) {
  Prefetcher prefetcher = that_knows(4);
  prefetcher.begin_sample();
  prefetcher.observe(0);
  Prefetcher copy = prefetcher;
  const std::vector<RowId> rows{4};
  const std::vector<float> scores{1};
  std::vector<RowId> chosen;
  copy.choose(rows, scores, chosen);
  CHECK_EQ(chosen.size(), 1);
  CHECK(copy.trust() < 1);
  CHECK_EQ(prefetcher.trust(), 1);
  CHECK(copy.take_candidates().empty());
  CHECK_EQ(prefetcher.take_candidates().size(), 1);
}

}  // namespace
