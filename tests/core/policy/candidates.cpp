// candidates.cpp: candidates of short streams, and their features.
#include "policy/candidates.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "policy/fake_model.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kRows = 100;

TEST(candidates_repeated_in_a_sample_are_replaced) {
  Candidates generator(100);
  std::vector<Candidates::Candidate> candidates;
  const auto observe = [&](const std::vector<RowId>& rows) {
    generator.begin_sample();
    for (const RowId row : rows) generator.observe(row, kPrefetchHorizon, candidates);
  };
  observe({1, 2, 3, 9});
  candidates.clear();
  observe({1, 2});
  CHECK_EQ(candidates.size(), 4);  // 2, 3 and 9 of row 1, and 1 of row 2
  CHECK_EQ(candidates[1].row, 3);
  CHECK_EQ(candidates[1].support, 2);
  CHECK_EQ(candidates[1].position, 2);
  observe({1});
  CHECK_EQ(candidates.size(), 7);  // another sample
}

TEST(candidates_features_are_logarithms_of_counts) {
  Candidates generator(100);
  std::vector<Candidates::Candidate> candidates;
  const auto observe = [&](const std::vector<RowId>& rows) {
    generator.begin_sample();
    for (const RowId row : rows) {
      candidates.clear();
      generator.observe(row, kPrefetchHorizon, candidates);
    }
    std::ranges::sort(candidates, {}, &Candidates::Candidate::row);
  };
  observe({1, 2, 3});
  observe({1, 4});
  observe({2, 1});
  CHECK_EQ(candidates.size(), 3);  // the partners of row 1, accessed 3 times
  CHECK_EQ(candidates[0].row, 2);
  CHECK_EQ(candidates[0].times, 2);
  CHECK_EQ(candidates[0].accesses, 3);
  CHECK(std::abs(candidates[0].share - 2.0f / 3) < 1e-6f);
  CHECK_EQ(candidates[0].support, 1);
  CHECK_EQ(candidates[0].position, 2);
  CHECK_EQ(candidates[1].row, 3);
  CHECK_EQ(candidates[1].support, 2);  // a partner of row 2 as well
  CHECK(std::abs(candidates[1].confidence - (1.0f / 2 + 1.0f / 3)) < 1e-6f);
  CHECK_EQ(candidates[2].row, 4);
  CHECK_EQ(candidate_feature_names().size(), kCandidateFeatures - kRowFeatures);
  RowHistory history(table_per_row(kRows));
  history.begin_sample();
  history.observe(3);
  std::vector<float> features(kCandidateFeatures), row(kRowFeatures);
  Candidates::write_features(history, std::span(candidates).subspan(1, 1), features.data());
  const RowId third = 3;
  history.write_features({&third, 1}, row.data());
  CHECK(std::equal(row.begin(), row.end(), features.begin()));
  const float expected[] = {std::log2(1.0f / 3), 1, 2, std::log2(3.0f), std::log2(5.0f / 6),
                            std::log2(3.0f)};
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    CHECK(std::abs(features[kRowFeatures + i] - expected[i]) < 0.01f);
  }
}

}  // namespace
