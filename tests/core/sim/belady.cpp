// belady.cpp: OPT against exhaustive search, and against a linear scan for the farthest next use.
#include "sim/belady.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "check.hpp"
#include "sim/row_pages.hpp"

namespace {

using namespace tieralloc;

/// The min number of misses over all choices of victims, by exhaustive search.
class Search {
 public:
  Search(std::span<const RowId> trace, std::size_t capacity) : trace_(trace), capacity_(capacity) {}

  std::uint64_t min_misses(std::size_t position = 0, std::set<RowId> resident = {}) {
    if (position == trace_.size()) return 0;
    const auto key = std::make_pair(position, resident);
    const auto solved = solved_.find(key);
    if (solved != solved_.end()) return solved->second;
    const RowId row = trace_[position];
    std::uint64_t min;
    if (resident.contains(row)) {
      min = min_misses(position + 1, resident);
    } else if (resident.size() < capacity_) {
      resident.insert(row);
      min = 1 + min_misses(position + 1, resident);
    } else {
      min = ~std::uint64_t{0};
      for (RowId victim : std::set<RowId>(resident)) {
        std::set<RowId> after = resident;
        after.erase(victim);
        after.insert(row);
        min = std::min(min, 1 + min_misses(position + 1, after));
      }
    }
    return solved_[key] = min;
  }

 private:
  std::span<const RowId> trace_;
  std::size_t capacity_;
  std::map<std::pair<std::size_t, std::set<RowId>>, std::uint64_t> solved_;
};

std::vector<RowId> random_trace(std::mt19937_64& random, std::size_t length, std::uint64_t rows) {
  std::vector<RowId> trace(length);
  for (RowId& row : trace) row = random() % rows;
  return trace;
}

TEST(belady_misses_match_exhaustive_search) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 150; ++trial) {
    const std::uint64_t rows = 2 + random() % 5;
    const auto capacity = static_cast<std::uint32_t>(1 + random() % 4);
    const std::vector<RowId> trace = random_trace(random, 5 + random() % 12, rows);
    const Counts counts = belady(trace, rows, capacity);
    CHECK_EQ(counts.on_demand_fetches, Search(trace, capacity).min_misses());
    CHECK_EQ(counts.hits + counts.on_demand_fetches, trace.size());
  }
}

std::size_t next_use(std::span<const RowId> trace, std::size_t from, RowId row) {
  return static_cast<std::size_t>(
      std::find(trace.begin() + static_cast<std::ptrdiff_t>(from), trace.end(), row) -
      trace.begin());
}

Counts scan(std::span<const RowId> trace, std::size_t capacity, std::uint64_t count_from) {
  std::set<RowId> resident;
  Counts counts;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const std::uint64_t counted = i >= count_from ? 1 : 0;
    counts.lookups += counted;
    if (resident.contains(trace[i])) {
      counts.hits += counted;
      continue;
    }
    counts.on_demand_fetches += counted;
    if (resident.size() == capacity) {
      counts.evictions += counted;
      resident.erase(*std::max_element(resident.begin(), resident.end(), [&](RowId a, RowId b) {
        return next_use(trace, i, a) < next_use(trace, i, b);
      }));
    }
    resident.insert(trace[i]);
  }
  return counts;
}

TEST(belady_counts_match_linear_scan) {
  std::mt19937_64 random(2);
  for (std::uint32_t capacity : {1u, 2u, 7u, 20u, 59u, 60u, 100u}) {
    const std::vector<RowId> trace = random_trace(random, 1500, 60);
    for (std::uint64_t count_from : {0u, 700u, 1500u, 2000u}) {
      const Counts counts = belady(trace, 60, capacity, count_from);
      const Counts expected = scan(trace, capacity, count_from);
      CHECK_EQ(counts.lookups, expected.lookups);
      CHECK_EQ(counts.hits, expected.hits);
      CHECK_EQ(counts.on_demand_fetches, expected.on_demand_fetches);
      CHECK_EQ(counts.evictions, expected.evictions);
    }
  }
}

TEST(belady_device_reads_match_the_labels) {
  std::mt19937_64 random(5);
  const std::vector<RowId> trace = random_trace(random, 1500, 60);
  std::vector<std::uint32_t> lengths;
  for (std::size_t left = trace.size(); left > 0; left -= lengths.back()) {
    lengths.push_back(static_cast<std::uint32_t>(std::min<std::size_t>(left, random() % 6)));
  }
  const RowPages pages = pages_in_id_order(std::vector<RowId>{0, 60}, 4);
  for (const std::size_t samples : {1u, 7u}) {
    std::vector<std::uint8_t> missed(trace.size()), kept(trace.size());
    opt_labels(trace, 60, 20, missed, kept);
    std::set<std::pair<std::size_t, std::uint32_t>> reads;
    std::size_t at = 0;
    for (std::size_t sample = 0; sample < lengths.size(); ++sample) {
      for (const std::size_t end = at + lengths[sample]; at < end; ++at) {
        if (missed[at] == 1) reads.emplace(sample / samples, pages[trace[at]]);
      }
    }
    const Counts counts = belady(trace, 60, 20, 0, {samples, lengths, pages});
    CHECK_EQ(counts.on_demand_device_reads, reads.size());
    CHECK_EQ(counts.calls, (lengths.size() + samples - 1) / samples);
    CHECK_EQ(counts.hits, belady(trace, 60, 20).hits);
  }
  CHECK_THROWS(std::invalid_argument, belady(trace, 60, 20, 0, {.samples = 1}),
               "sample_lengths: wrong sum; expected 1500, got 0");
}

TEST(opt_labels_add_up_to_counts) {
  std::mt19937_64 random(3);
  for (std::uint32_t capacity : {1u, 7u, 20u, 59u, 60u, 100u}) {
    const std::vector<RowId> trace = random_trace(random, 1500, 60);
    std::vector<std::uint8_t> missed(trace.size()), kept(trace.size());
    opt_labels(trace, 60, capacity, missed, kept);
    const Counts counts = belady(trace, 60, capacity);
    CHECK_EQ(std::count(missed.begin(), missed.end(), 1), counts.on_demand_fetches);
    CHECK_EQ(std::count(kept.begin(), kept.end(), 1), counts.hits);
    for (std::size_t i = 0; i < trace.size(); ++i) {
      const std::size_t next = next_use(trace, i + 1, trace[i]);
      CHECK_EQ(kept[i] == 1, next < trace.size() && missed[next] == 0);
    }
  }
}

TEST(next_uses_match_linear_scan) {
  std::mt19937_64 random(4);
  const std::vector<RowId> trace = random_trace(random, 500, 60);
  std::vector<std::uint32_t> next(trace.size());
  next_uses(trace, 60, next);
  for (std::size_t i = 0; i < trace.size(); ++i) {
    CHECK_EQ(next[i], next_use(trace, i + 1, trace[i]));
  }
}

TEST(belady_of_no_access_counts_nothing) {
  CHECK_EQ(belady({}, 10, 1).lookups, 0);
}

TEST(belady_with_invalid_arguments_throws) {
  const std::vector<RowId> trace{0, 5};
  CHECK_THROWS(std::invalid_argument, belady(trace, 6, 0), "capacity of at least 1 row, got 0");
  CHECK_THROWS(std::out_of_range, belady(trace, 5, 1),
               "access 1: row out of range; expected below 5, got 5");
}

}  // namespace
