// row_history.cpp: features against a std::map of all accesses.
#include "policy/row_history.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>

#include "check.hpp"
#include "faults.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Features = std::array<float, kRowFeatures>;

enum Feature : std::size_t {
  kTable,
  kInSample,
  kTableKnown,
  kGap,
  kAge = kGap + 3,
  kSamples,
  kLifetime,
  kDecayed,
  kContext = kDecayed + 3,
};

Features features_of(const RowHistory& history, RowId row) {
  Features features;
  history.write_features({&row, 1}, features.data());
  return features;
}

/// All accesses, at full precision.
class NaiveHistory {
 public:
  explicit NaiveHistory(const HistoryConfig& config) : config_(config) {
    known_share_.resize(config.table_starts.size() - 1, 0.5);
  }

  void begin_sample() { ++sample_; }

  void observe(RowId row) {
    ++now_;
    const std::size_t table = table_of(row);
    known_share_[table] += ((rows_.contains(row) ? 1.0 : 0.0) - known_share_[table]) * 0.002;
    Accesses& row_accesses = rows_[row];
    if (row_accesses.accesses.empty() || row_accesses.sample != sample_) ++row_accesses.samples;
    row_accesses.accesses.push_back(now_);
    row_accesses.sample = sample_;
    contexts_[sample_][table] = {gap(row_accesses, 0), row_accesses.samples};
  }

  /// Checks features of a row; returns the error of its decayed counts.
  double check(RowId row, const Features& got) const {
    const std::size_t table = table_of(row);
    CHECK_EQ(got[kTable], config_.table_numbers[table]);
    CHECK(std::abs(got[kTableKnown] - known_share_[table]) < 1e-3);
    const auto entry = rows_.find(row);
    if (entry == rows_.end()) {
      check_unknown(got);
      return 0;
    }
    const Accesses& row_accesses = entry->second;
    CHECK_EQ(got[kInSample], row_accesses.sample == sample_ ? 1 : 0);
    for (std::size_t i = 0; i < 3; ++i) check_gap(got[kGap + i], gap(row_accesses, i));
    CHECK(std::abs(got[kAge] - std::log2(1.0 + now_ - row_accesses.accesses.back())) < 2e-3);
    CHECK(std::abs(got[kSamples] - std::log2(1.0 + std::min(row_accesses.samples, 255u))) < 2e-3);
    CHECK(std::abs(got[kLifetime] - std::log2(1.0 + now_ - row_accesses.accesses.front())) < 1);
    check_contexts(row_accesses, table, &got[kContext]);
    double error = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double off = std::abs(got[kDecayed + i] - decayed(row_accesses, i));
      CHECK(off < 1.2);
      error += off / 3;
    }
    return error;
  }

 private:
  static constexpr std::uint32_t kNoGap = 0;
  static constexpr std::uint32_t kRememberedSamples = 64;

  struct Accesses {
    std::vector<std::uint32_t> accesses;
    std::uint32_t sample = 0, samples = 0;
  };
  struct Context {
    std::uint32_t gap, samples;
  };

  std::size_t table_of(RowId row) const {
    std::size_t table = 0;
    while (row >= config_.table_starts[table + 1]) ++table;
    return table;
  }

  /// The i-th last gap between accesses.
  static std::uint32_t gap(const Accesses& row_accesses, std::size_t i) {
    if (row_accesses.accesses.size() < i + 2) return kNoGap;
    return row_accesses.accesses.rbegin()[i] - row_accesses.accesses.rbegin()[i + 1];
  }

  static void check_gap(float got, std::uint32_t gap) {
    const double expected = gap == kNoGap ? kNever : std::log2(1.0 + gap);
    CHECK(std::abs(got - expected) < 0.06);
  }

  static void check_unknown(const Features& got) {
    CHECK_EQ(got[kInSample], 0);
    for (std::size_t i : {kGap + 0, kGap + 1, kGap + 2, kAge + 0, kLifetime + 0}) {
      CHECK(std::abs(got[i] - kNever) < 2e-3);
    }
    CHECK(std::abs(got[kSamples]) < 2e-3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(got[kDecayed + i] + 9.966) < 2e-3);
    for (std::size_t i = 0; i < kContexts; ++i) check_no_context(&got[kContext + 2 * i]);
  }

  static void check_no_context(const float* got) {
    CHECK(std::abs(got[0] - kNever) < 2e-3);
    CHECK(std::abs(got[1]) < 2e-3);
  }

  void check_contexts(const Accesses& row_accesses, std::size_t table, const float* got) const {
    const auto sample = contexts_.find(row_accesses.sample);
    for (std::size_t i = 0; i < kContexts; ++i, got += 2) {
      const bool is_known = i < config_.contexts.size() && config_.contexts[i] != table &&
                            sample_ - row_accesses.sample < kRememberedSamples &&
                            sample->second.contains(config_.contexts[i]);
      if (!is_known) {
        check_no_context(got);
        continue;
      }
      const Context& context = sample->second.at(config_.contexts[i]);
      check_gap(got[0], context.gap);
      CHECK(std::abs(got[1] - std::log2(1.0 + std::min(context.samples, 255u))) < 2e-3);
    }
  }

  double decayed(const Accesses& row_accesses, std::size_t i) const {
    const double half_life = std::array{2048.0, 16384.0, 262144.0}[i];
    double count = 1e-3;
    for (const std::uint32_t access : row_accesses.accesses) {
      count += std::exp2(-static_cast<double>(now_ - access) / half_life);
    }
    return std::log2(count);
  }

  const HistoryConfig config_;
  std::map<RowId, Accesses> rows_;
  std::map<std::uint32_t, std::map<std::size_t, Context>> contexts_;
  std::vector<double> known_share_;
  std::uint32_t now_ = 0, sample_ = 0;
};

HistoryConfig three_tables() {
  HistoryConfig config;
  config.table_starts = {0, 40, 40, 140, 300};
  config.table_numbers = {7, 9, 3, 5};
  config.contexts = {3, 0};
  config.remembered = 8192;
  config.samples = 64;
  return config;
}

TEST(row_history_features_match_a_map) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const HistoryConfig config = three_tables();
    std::mt19937_64 random(seed);
    RowHistory history(config);
    NaiveHistory naive(config);
    double errors = 0;
    int compared = 0;
    for (int sample = 0; sample < 1500; ++sample) {
      history.begin_sample();
      naive.begin_sample();
      for (std::uint64_t n = random() % 12; n > 0; --n) {
        const RowId below = random() % 2 == 0 ? 300 : 1 + random() % 300;
        const RowId row = random() % below;
        history.observe(row);
        naive.observe(row);
      }
      for (int i = 0; i < 6; ++i, ++compared) {
        const RowId row = random() % 300;
        errors += naive.check(row, features_of(history, row));
      }
    }
    CHECK(errors / compared < 0.1);
  }
}

TEST(row_history_features_within_a_sample_match_a_map) {
  const HistoryConfig config = three_tables();
  RowHistory history(config);
  NaiveHistory naive(config);
  std::mt19937_64 random(9);
  for (int access = 0; access < 3000; ++access) {
    if (access % 500 == 0) {
      history.begin_sample();
      naive.begin_sample();
    }
    const RowId row = random() % 300;
    history.observe(row);
    naive.observe(row);
    for (const RowId other : {row, random() % 300}) {
      naive.check(other, features_of(history, other));
    }
  }
}

TEST(row_history_batch_features_equal_single_ones) {
  RowHistory history(three_tables());
  std::mt19937_64 random(4);
  std::vector<RowId> rows;
  for (int i = 0; i < 500; ++i) {
    rows.push_back(random() % 300);
    if (i % 9 == 0) history.begin_sample();
    history.observe(rows.back());
  }
  std::vector<float> all(rows.size() * kRowFeatures);
  history.write_features(rows, all.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Features one = features_of(history, rows[i]);
    CHECK(std::equal(one.begin(), one.end(), &all[i * kRowFeatures]));
  }
}

TEST(row_history_counts_up_to_255_samples) {
  HistoryConfig config;
  config.table_starts = {0, 10};
  config.remembered = 10;
  RowHistory history(config);
  for (int sample = 0; sample < 1000; ++sample) {
    history.begin_sample();
    for (int i = 0; i < 3; ++i) history.observe(4);
  }
  CHECK(std::abs(features_of(history, 4)[kSamples] - 8) < 2e-3);
  CHECK_EQ(history.now(), 3000);
}

/// Naive records of one bucket; a new row replaces the one of the lowest merit.
class NaiveBucket {
 public:
  void begin_sample() { ++sample_; }

  void observe(RowId row) {
    ++now_;
    auto record = std::find_if(records_.begin(), records_.end(),
                               [&](const Record& each) { return each.row == row; });
    if (record == records_.end()) record = replace(row);
    if (record->sample != sample_)
      record->samples = std::min(record->samples + 1, std::uint64_t{255});
    record->sample = sample_;
    record->last = now_;
  }

  bool contains(RowId row) const {
    return std::any_of(records_.begin(), records_.end(),
                       [&](const Record& each) { return each.row == row; });
  }

 private:
  struct Record {
    RowId row;
    std::uint64_t last = 0, sample = 0, samples = 0;
  };

  std::vector<Record>::iterator replace(RowId row) {
    if (records_.size() < 4) return records_.insert(records_.end(), Record{row});
    auto worst = records_.begin();
    for (auto record = records_.begin(); record != records_.end(); ++record) {
      // age / samples², compared without a division
      const auto is_longer = (now_ - record->last) * worst->samples * worst->samples >
                             (now_ - worst->last) * record->samples * record->samples;
      if (is_longer) worst = record;
    }
    *worst = Record{row};
    return worst;
  }

  std::vector<Record> records_;
  std::uint64_t now_ = 0, sample_ = 0;
};

TEST(row_history_replaces_the_record_of_the_lowest_merit) {
  HistoryConfig config;
  config.table_starts = {0, 12};
  config.remembered = 4;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    RowHistory history(config);
    NaiveBucket naive;
    std::mt19937_64 random(seed);
    for (int sample = 0; sample < 2000; ++sample) {
      history.begin_sample();
      naive.begin_sample();
      for (std::uint64_t n = 1 + random() % 3; n > 0; --n) {
        const RowId below = 1 + random() % 12;
        const RowId row = random() % below;
        history.observe(row);
        naive.observe(row);
        for (RowId other = 0; other < 12; ++other) {
          CHECK_EQ(features_of(history, other)[kAge] < kNever - 1, naive.contains(other));
        }
      }
    }
  }
}

TEST(row_history_of_the_max_number_of_rows_works) {
  HistoryConfig config;
  config.table_starts = {0, kNoRow - 1};
  config.remembered = 1000;
  RowHistory history(config);
  CHECK_EQ(history.rows(), kNoRow - 1);
  for (RowId row : {RowId{0}, RowId{1} << 40, kNoRow - 2}) {
    history.observe(row);
    CHECK_EQ(features_of(history, row)[kAge], features_of(history, row)[kSamples] - 1);
  }
}

TEST(row_history_takes_memory_only_at_construction) {
  HistoryConfig config = three_tables();
  config.remembered = 100000;
  config.samples = 5000;
  const std::size_t before = faults::allocated_bytes();
  RowHistory history(config);
  const std::size_t after = faults::allocated_bytes();
  const std::size_t expected = RowHistory::bytes(config);
  CHECK(after - before >= expected && after - before < expected + 1000);
  for (RowId row = 0; row < 300; ++row) {
    history.begin_sample();
    history.observe(row);
    features_of(history, row);
  }
  CHECK_EQ(faults::allocated_bytes(), after);
}

TEST(row_history_names_its_features) {
  const std::vector<std::string> names = row_feature_names();
  CHECK_EQ(names.size(), kRowFeatures);
  CHECK_EQ(names[kTable], "table");
  CHECK_EQ(names[kAge], "age");
  CHECK_EQ(names[kDecayed], "decayed_2048");
  CHECK_EQ(names[kContext], "context_0_gap");
}

/// The error message for a changed configuration.
template <typename Change>
std::string error_of(Change change) {
  HistoryConfig config = three_tables();
  change(config);
  try {
    RowHistory history(config);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST(row_history_with_invalid_configuration_throws) {
  using H = HistoryConfig;
  const std::string starts = "table_starts: expected to ascend from 0";
  for (const std::vector<RowId>& wrong :
       {std::vector<RowId>{}, {0}, {0, 40, 30, 140, 300}, {5, 40, 60, 140, 300}}) {
    CHECK_EQ(error_of([&](H& config) { config.table_starts = wrong; }).find(starts), 0);
  }
  CHECK_EQ(error_of([](H& config) { config.table_starts.assign(65537, 0); }).find(starts), 0);
  CHECK_EQ(error_of([](H& config) { config.table_numbers.pop_back(); }),
           "table_numbers: expected 4, got 3");
  CHECK_EQ(error_of([](H& config) { config.contexts = {0, 4}; }),
           "contexts: expected tables below 4, got 4");
  CHECK_EQ(error_of([](H& config) { config.contexts = {0, 1, 2, 3, 0}; }),
           "contexts: expected at most 4, got 5");
  CHECK_EQ(error_of([](H& config) { config.remembered = 0; }),
           "remembered: expected at least 1 row, got 0");
}

}  // namespace
