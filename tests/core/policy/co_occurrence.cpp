// co_occurrence.cpp: CoOccurrence against counts in standard containers.
#include "policy/co_occurrence.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <utility>

#include "check.hpp"
#include "faults.hpp"

namespace {

using namespace tieralloc;
using Record = CoOccurrence::Record;

/// Naive counts, for rows with at most kPartners partners.
class Naive {
 public:
  void begin_sample() { recent_.clear(); }

  void observe(RowId row, bool is_cold) {
    for (const auto& [other, other_is_cold] : recent_) {
      if (other == row) continue;
      if (other_is_cold) count(row, other);
      if (is_cold) count(other, row);
    }
    recent_.push_back({row, is_cold});
    if (recent_.size() > CoOccurrence::kWindow) recent_.pop_front();
    if (++accesses_[row] < 64) return;
    accesses_[row] /= 2;
    for (auto& [partner, times] : times_[row]) times /= 2;
  }

  std::uint32_t accesses(RowId row) { return accesses_[row]; }
  const std::map<RowId, std::uint32_t>& partners(RowId row) { return times_[row]; }

 private:
  void count(RowId row, RowId partner) {
    std::uint32_t& times = times_[row][partner];
    times = std::min(times + 1, 255u);
  }

  std::map<RowId, std::map<RowId, std::uint32_t>> times_;
  std::map<RowId, std::uint32_t> accesses_;
  std::deque<std::pair<RowId, bool>> recent_;
};

std::map<RowId, std::uint32_t> as_map(const Record& record) {
  std::map<RowId, std::uint32_t> times;
  for (std::uint32_t i = 0; i < record.size(); ++i) times[record.row(i)] = record.times(i);
  CHECK_EQ(times.size(), record.size());
  return times;
}

TEST(co_occurrence_random_accesses_match_naive) {
  constexpr RowId kStep = (kMaxPartnerRow - 1) / CoOccurrence::kPartners;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    std::mt19937_64 random(seed);
    CoOccurrence pairs(4096);
    Naive naive;
    for (int sample = 0; sample < 2000; ++sample) {
      pairs.begin_sample();
      naive.begin_sample();
      for (std::uint64_t n = random() % 20; n > 0; --n) {
        const RowId row = random() % (2 + random() % CoOccurrence::kPartners) * kStep;
        const bool is_cold = random() % 3 != 0;
        naive.observe(row, is_cold);
        const Record& record = pairs.observe(row, is_cold);
        CHECK_EQ(record.accesses(), naive.accesses(row));
        CHECK(as_map(record) == naive.partners(row));
      }
    }
  }
}

TEST(co_occurrence_counts_cold_partners_only) {
  CoOccurrence pairs(100);
  pairs.begin_sample();
  pairs.observe(1, false);
  CHECK_EQ(pairs.observe(2, true).size(), 0);
  CHECK(as_map(pairs.observe(3, false)) == (std::map<RowId, std::uint32_t>{{2, 1}}));
  pairs.begin_sample();
  const Record& record = pairs.observe(1, false);
  CHECK(as_map(record) == (std::map<RowId, std::uint32_t>{{2, 1}}));
  CHECK_EQ(record.accesses(), 2);
}

TEST(co_occurrence_counts_within_the_window_of_a_sample) {
  CoOccurrence pairs(100);
  pairs.begin_sample();
  for (RowId row = 0; row < 19; ++row) pairs.observe(row, true);
  const auto partners = as_map(pairs.observe(19, true));
  CHECK_EQ(partners.size(), CoOccurrence::kWindow);
  for (const auto& [row, times] : partners) CHECK(row >= 11 && times == 1);
  pairs.begin_sample();
  CHECK_EQ(pairs.observe(100, true).size(), 0);
}

TEST(co_occurrence_halves_counts) {
  CoOccurrence pairs(100);
  for (std::uint32_t i = 1; i < 200; ++i) {
    pairs.begin_sample();
    pairs.observe(1, true);
    const Record& record = pairs.observe(2, true);
    const std::uint32_t expected = i < 64 ? i : 32 + (i - 64) % 32;
    CHECK_EQ(record.accesses(), expected);
    CHECK_EQ(record.times(0), expected);
  }
}

TEST(co_occurrence_replaces_partners_of_the_lowest_count) {
  CoOccurrence pairs(1000);
  const auto observe_with = [&](RowId partner) {
    pairs.begin_sample();
    pairs.observe(partner, true);
    return as_map(pairs.observe(0, true));
  };
  for (int i = 0; i < 2; ++i) observe_with(1);
  std::map<RowId, std::uint32_t> times;
  for (RowId partner = 2; partner < 50; ++partner) {
    times = observe_with(partner);
    CHECK_EQ(times.size(), std::min<std::size_t>(partner, CoOccurrence::kPartners));
    CHECK_EQ(times.at(1), 2);
    CHECK_EQ(times.at(partner), 1);
  }
  for (RowId partner = 50 - 31; partner < 50; ++partner) CHECK(times.contains(partner));
}

TEST(co_occurrence_beyond_its_capacity_is_bounded) {
  for (const std::uint32_t capacity : {0u, 1u, 2u, 7u, 64u}) {
    const std::size_t before = faults::allocated_bytes();
    CoOccurrence pairs(capacity);
    const std::size_t taken = faults::allocated_bytes() - before;
    CHECK(taken <= CoOccurrence::bytes(capacity));
    std::mt19937_64 random(capacity);
    for (int i = 0; i < 50000; ++i) {
      if (random() % 10 == 0) pairs.begin_sample();
      const RowId row = random() % 1000;
      const std::uint32_t accesses = pairs.observe(row, random() % 2 == 0).accesses();
      const Record& record = pairs.observe(row, false);
      CHECK_EQ(record.accesses(), accesses + 1 < 64 ? accesses + 1 : 32);
      CHECK(record.size() <= CoOccurrence::kPartners);
      for (std::uint32_t n = 0; n < record.size(); ++n) {
        CHECK(record.row(n) < 1000 && record.row(n) != row);
      }
    }
    CHECK_EQ(faults::allocated_bytes() - before, taken);
  }
}

}  // namespace
