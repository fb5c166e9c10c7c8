// prefetching_simulator.cpp: replays with each prefetcher, whose words tests/test_rivals.py checks.
#include "rivals/prefetching_simulator.hpp"

#include <functional>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "rivals/bingo.hpp"
#include "rivals/co_occurrence.hpp"
#include "rivals/domino.hpp"
#include "rivals/foretold.hpp"
#include "rivals/next_row.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kRows = 300;

std::vector<std::shared_ptr<RowPrefetcher>> one_of_each() {
  std::vector<std::shared_ptr<RowPrefetcher>> made;
  made.push_back(std::make_shared<NextRow>(3, kRows));
  made.push_back(std::make_shared<CoOccurrence>(CoOccurrenceSettings{.rows = 50, .partners = 4}));
  made.push_back(std::make_shared<Domino>(DominoSettings{.rows = 50, .history = 100}));
  made.push_back(std::make_shared<Bingo>(BingoSettings{.region = 8, .active = 10, .history = 20},
                                         std::vector<std::uint32_t>(kRows)));
  return made;
}

/// Short runs that come again now and then.
std::vector<RowId> random_accesses(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<RowId> accesses;
  while (accesses.size() < count) {
    const RowId first = random() % 40;
    for (RowId i = 0; i < 5; ++i) accesses.push_back((first * first + 7 * i * i) % kRows);
  }
  accesses.resize(count);
  return accesses;
}

std::unique_ptr<EvictionPolicy> policy_of(const char* name, std::uint32_t capacity) {
  return make_eviction_policy(name, {.capacity = capacity, .slots = capacity});
}

/// Passes on what another says, and sees what it is told.
class Watched final : public RowPrefetcher {
 public:
  explicit Watched(std::shared_ptr<RowPrefetcher> inner) : inner_(std::move(inner)) {}

  void begin_sample() override { inner_->begin_sample(); }

  void observe(RowId row, Found found, std::vector<RowId>& ahead) override {
    seen_.insert(row);
    inner_->observe(row, found, ahead);
    seen_.insert(ahead.begin(), ahead.end());
  }

  void evicted(RowId row) override {
    CHECK(seen_.contains(row));
    left_.push_back(row);
    inner_->evicted(row);
  }

  std::size_t bytes() const override { return inner_->bytes(); }

  const std::vector<RowId>& left() const { return left_; }

 private:
  std::shared_ptr<RowPrefetcher> inner_;
  std::set<RowId> seen_;
  std::vector<RowId> left_;
};

TEST(prefetchers_are_told_of_every_row_that_leaves) {
  for (const auto& prefetcher : one_of_each()) {
    auto watched = std::make_shared<Watched>(prefetcher);
    const std::vector<RowId> accesses = random_accesses(2000, 1);
    PrefetchingSimulator simulator(policy_of("lru", 40), 40, kRows, 0, 0, watched);
    simulator.run(accesses, std::vector<std::uint32_t>(400, 5));
    CHECK_EQ(watched->left().size(), simulator.counts().evictions);
    CHECK(simulator.counts().prefetches_issued > 0);
  }
}

TEST(prefetchers_take_no_more_memory_than_they_say_at_first) {
  for (const auto& prefetcher : one_of_each()) {
    const std::size_t before = prefetcher->bytes();
    PrefetchingSimulator simulator(policy_of("s3fifo", 30), 30, kRows, 0, 3, prefetcher);
    const std::vector<RowId> accesses = random_accesses(5000, 2);
    simulator.run(accesses, std::vector<std::uint32_t>{1000, 0, 4000});
    CHECK_EQ(prefetcher->bytes(), before);
  }
}

TEST(a_replay_with_a_prefetcher_refuses_what_a_simulator_refuses) {
  PrefetchingSimulator simulator(policy_of("lru", 3), 3, 10, 0, 0,
                                 std::make_shared<NextRow>(1, 10));
  const std::vector<RowId> rows{1, 10};
  const std::vector<std::uint32_t> lengths{2};
  CHECK_THROWS(std::out_of_range, simulator.run(rows, lengths), "row 10");
  const std::vector<RowId> good{1, 2};
  const std::vector<std::uint32_t> too_short{1};
  CHECK_THROWS(std::invalid_argument, simulator.run(good, too_short), "add up");
  CHECK_EQ(simulator.counts().lookups, 0u);
}

TEST(what_was_not_foretold_is_an_error) {
  auto foretold = std::make_shared<Foretold>(true);
  PrefetchingSimulator simulator(policy_of("lru", 3), 3, 10, 0, 0, foretold);
  const std::vector<RowId> ahead{4};
  foretold->tell(ahead, std::vector<std::uint64_t>{0, 1});
  const std::vector<RowId> rows{1, 4};
  const std::vector<std::uint32_t> lengths{2};
  CHECK_THROWS(std::runtime_error, simulator.run(rows, lengths), "nothing was told");
  CHECK_EQ(simulator.counts().prefetches_useful, 1u);
}

}  // namespace
