// training_samples.cpp: samples against a naive replay of the accesses.
#include "policy/training_samples.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "policy/fake_model.hpp"
#include "policy/prefetcher.hpp"

namespace {

using namespace tieralloc;

struct Drawn {
  std::vector<float> features;
  std::vector<std::uint32_t> times, distances;

  explicit Drawn(std::size_t samples, std::size_t width = kRowFeatures)
      : features(samples * width), times(samples), distances(samples) {}
  RowId row(std::size_t sample) const {
    return static_cast<RowId>(features[sample * (features.size() / times.size())]);
  }
  TrainingSamples span() { return {features, times, distances}; }
};

constexpr std::uint32_t kRows = 60;

struct Stream {
  std::vector<RowId> rows;
  std::vector<std::uint32_t> lengths;

  explicit Stream(std::uint64_t seed, std::size_t samples = 400, std::uint32_t below = kRows) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < samples; ++i) {
      lengths.push_back(random() % 8);
      for (std::uint32_t n = 0; n < lengths.back(); ++n) rows.push_back(skewed_row(random, below));
    }
  }
};

TEST(training_samples_of_rows_match_the_accesses) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Stream stream(seed);
    const HistoryConfig config = table_per_row(kRows);
    for (const std::size_t count : {1u, 7u, 500u, 5000u}) {
      const std::size_t first = seed * 100;
      Drawn drawn(count);
      draw_row_samples(config, stream.rows, stream.lengths, first, seed, drawn.span());
      RowHistory history(config);
      std::size_t observed = 0, sample = 0, left = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t time = drawn.times[i];
        // Evenly spread: the first access by which sample i is due.
        const double accesses = static_cast<double>(stream.rows.size() - first);
        CHECK_EQ(time, first + std::ceil(static_cast<double>(i + 1) * accesses /
                                         static_cast<double>(count)));
        for (; observed < time; ++observed, --left) {
          for (; left == 0; ++sample) {
            history.begin_sample();
            left = stream.lengths[sample];
          }
          history.observe(stream.rows[observed]);
        }
        const RowId row = drawn.row(i);
        const auto begin = stream.rows.begin();
        CHECK(std::find(begin, begin + time, row) != begin + time);
        const auto next = std::find(begin + time, stream.rows.end(), row);
        // The access at `time - 1` is the last observed one.
        const auto distance = static_cast<std::uint32_t>(next - begin) - (time - 1);
        CHECK_EQ(drawn.distances[i], next == stream.rows.end() ? kNeverAgain : distance);
        CHECK(drawn.distances[i] >= 1);
        std::array<float, kRowFeatures> features;
        history.write_features({&row, 1}, features.data());
        CHECK(std::equal(features.begin(), features.end(), &drawn.features[i * kRowFeatures]));
      }
      CHECK_EQ(count == 1 || drawn.times.back() == stream.rows.size(), true);
    }
  }
}

TEST(training_samples_have_log_uniform_ages) {
  // Every row has one access, so that a row's age is the time since it.
  constexpr std::uint32_t kAccesses = 1 << 14;
  std::vector<RowId> rows;
  for (RowId row = 0; row < kAccesses; ++row) rows.push_back(row);
  Drawn drawn(20000);
  draw_row_samples(table_per_row(kAccesses), rows, std::array{kAccesses}, kAccesses - 1, 3,
                   drawn.span());
  std::array<int, 14> octaves{};
  for (std::size_t i = 0; i < drawn.times.size(); ++i) {
    CHECK_EQ(drawn.times[i], kAccesses);
    const RowId age = kAccesses - 1 - drawn.row(i);
    const auto octave = static_cast<std::size_t>(std::log2(1.0 + static_cast<double>(age)));
    CHECK(octave < octaves.size() || age == kAccesses - 1);
    ++octaves[std::min<std::size_t>(octave, 13)];
  }
  for (const int count : octaves) CHECK(std::abs(count - 20000 / 14) < 200);
}

TEST(training_samples_depend_on_the_seed_alone) {
  const Stream stream(1);
  Drawn one(300), same(300), other(300);
  const HistoryConfig config = table_per_row(kRows);
  draw_row_samples(config, stream.rows, stream.lengths, 0, 1, one.span());
  draw_row_samples(config, stream.rows, stream.lengths, 0, 1, same.span());
  draw_row_samples(config, stream.rows, stream.lengths, 0, 2, other.span());
  CHECK(one.features == same.features && one.distances == same.distances);
  CHECK(one.features != other.features);
}

TEST(training_samples_with_invalid_arguments_throw) {
  const Stream stream(1);
  Drawn drawn(10);
  const auto draw = [&](std::uint32_t rows, std::span<const std::uint32_t> lengths,
                        std::size_t first) {
    draw_row_samples(table_per_row(rows), stream.rows, lengths, first, 0, drawn.span());
  };
  CHECK_THROWS(std::invalid_argument, draw(kRows, stream.lengths, stream.rows.size()),
               "first: expected below " + std::to_string(stream.rows.size()));
  CHECK_THROWS(std::invalid_argument, draw(kRows, std::array{5u}, 0), "sample_lengths: wrong sum");
  CHECK_THROWS(std::out_of_range, draw(10, stream.lengths, 0), "expected below 10");
  HistoryConfig wrong = table_per_row(kRows);
  wrong.remembered = 0;
  CHECK_THROWS(std::invalid_argument,
               draw_row_samples(wrong, stream.rows, stream.lengths, 0, 0, drawn.span()),
               "remembered");
  CHECK(drawn.times == std::vector<std::uint32_t>(10));
}

constexpr std::uint32_t kCandidateRows = 600;
constexpr std::uint32_t kPartners = 4 * kCandidateRows;

std::size_t draw_candidates(const Stream& stream, std::size_t first, std::uint64_t seed,
                            Drawn& drawn) {
  return draw_candidate_samples(table_per_row(kCandidateRows), kPartners, stream.rows,
                                stream.lengths, first, seed, drawn.span());
}

TEST(training_samples_of_candidates_match_the_accesses) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const Stream stream(seed, 3000, kCandidateRows);
    for (const std::size_t room : {1u, 50u, 1000u}) {
      const std::size_t first = seed * 1000;
      Drawn drawn(room, kCandidateFeatures);
      const std::size_t count = draw_candidates(stream, first, seed, drawn);
      CHECK(count <= room && count + 2 > room);
      RowHistory history(table_per_row(kCandidateRows));
      Candidates generator(kPartners);
      std::vector<Candidates::Candidate> candidates;
      std::size_t at = 0, sample = 0;
      const auto begin = stream.rows.begin();
      for (const std::uint32_t length : stream.lengths) {
        history.begin_sample();
        generator.begin_sample();
        for (const std::size_t end = at + length; at < end;) {
          candidates.clear();
          generator.observe(stream.rows[at], history.observe(stream.rows[at]), candidates);
          ++at;
          auto candidate = candidates.begin();
          for (; sample < count && drawn.times[sample] == at; ++sample, ++candidate) {
            CHECK(at > first);
            // At most the number due.
            CHECK((sample + 1) * (stream.rows.size() - first) <= room * (at - first));
            const RowId row = drawn.row(sample);
            // In the order of the candidates.
            candidate = std::find_if(candidate, candidates.end(),
                                     [row](const auto& other) { return other.row == row; });
            CHECK(candidate != candidates.end());
            std::array<float, kCandidateFeatures> features;
            Candidates::write_features(history, {&*candidate, 1}, features.data());
            CHECK(std::equal(features.begin(), features.end(),
                             &drawn.features[sample * kCandidateFeatures]));
            const auto next =
                std::find(begin + static_cast<std::ptrdiff_t>(at), stream.rows.end(), row);
            const auto after = next - begin - static_cast<std::ptrdiff_t>(end) + 1;
            const auto distance = static_cast<std::uint32_t>(std::max<std::ptrdiff_t>(after, 0));
            CHECK_EQ(drawn.distances[sample], next == stream.rows.end() ? kNeverAgain : distance);
          }
        }
      }
      CHECK_EQ(sample, count);
    }
  }
}

TEST(training_samples_of_candidates_depend_on_the_seed_alone) {
  const Stream stream(1, 3000, kCandidateRows);
  Drawn one(300, kCandidateFeatures), same(300, kCandidateFeatures), other(300, kCandidateFeatures);
  CHECK_EQ(draw_candidates(stream, 0, 1, one), draw_candidates(stream, 0, 1, same));
  draw_candidates(stream, 0, 2, other);
  CHECK(one.features == same.features && one.distances == same.distances);
  CHECK(one.features != other.features);
}

/// Each pair of rows is accessed twice. The second time, the partner of the first row was last
/// accessed long before, the partner of the second row within the sample.
TEST(training_samples_of_candidates_prefer_old_accesses) {
  constexpr std::uint32_t kPairs = 4096;
  std::vector<RowId> rows;
  for (RowId i = 0; i < 4 * kPairs; ++i) rows.push_back(i % (2 * kPairs));
  const std::vector<std::uint32_t> lengths(2 * kPairs, 2);
  Drawn drawn(4 * kPairs, kCandidateFeatures);
  const std::size_t count = draw_candidate_samples(table_per_row(2 * kPairs), 8 * kPairs, rows,
                                                   lengths, 0, 1, drawn.span());
  std::size_t long_ago = 0, recent = 0;
  for (std::size_t i = 0; i < count; ++i) {
    // Whether the candidate is accessed later in the sample.
    const bool is_next = drawn.distances[i] == 0;
    ++(is_next ? long_ago : recent);
  }
  // 0.15 of the former, one per pair; 0.15 / 13 of the latter, two per pair.
  CHECK(std::abs(static_cast<double>(long_ago) - 0.15 * kPairs) < 90);
  CHECK(std::abs(static_cast<double>(recent) - 2 * 0.15 / 13 * kPairs) < 40);
}

TEST(training_samples_of_candidates_with_invalid_arguments_throw) {
  const Stream stream(1, 400, kCandidateRows);
  Drawn drawn(10, kCandidateFeatures);
  CHECK_THROWS(std::invalid_argument, draw_candidates(stream, stream.rows.size(), 0, drawn),
               "first: expected below " + std::to_string(stream.rows.size()));
  CHECK_THROWS(std::out_of_range,
               draw_candidate_samples(table_per_row(10), kPartners, stream.rows, stream.lengths, 0,
                                      0, drawn.span()),
               "expected below 10");
  CHECK(drawn.times == std::vector<std::uint32_t>(10));
}

}  // namespace
