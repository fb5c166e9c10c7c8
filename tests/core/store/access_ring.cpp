// access_ring.cpp: accesses passed from one thread to another.
#include "store/access_ring.hpp"

#include <random>

#include "check.hpp"
#include "store/access_samples.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Rows = std::vector<RowId>;
using Lengths = std::vector<std::uint32_t>;

AccessSamples popped(AccessRing& ring) {
  std::vector<std::uint64_t> words;
  ring.pop(words);
  AccessSamples samples;
  samples.append(words);
  return samples;
}

std::vector<TierRow> tier_rows(const Rows& rows) {
  std::vector<TierRow> typed;
  for (const RowId row : rows) typed.push_back({row});
  return typed;
}

/// A call on one table, each row a bag.
void push_rows(AccessRing& ring, const Rows& rows, RowId shift = 0) {
  ring.begin_call();
  ring.begin_segment();
  ring.push(tier_rows(rows), shift, Lengths(rows.size(), 1), true);
  ring.end_call();
}

TEST(ring_returns_rows_in_order_and_shifted) {
  AccessRing ring(8);
  for (int round = 0; round < 10; ++round) {  // around its end
    push_rows(ring, {5, 6, 7}, 100);
    push_rows(ring, {5}, RowId{0} - 5);
    const AccessSamples samples = popped(ring);
    CHECK(samples.rows == (Rows{105, 106, 107, 0}));
    CHECK(samples.lengths == (Lengths{1, 1, 1, 1}));
    CHECK(popped(ring).rows.empty());
  }
  CHECK_EQ(ring.dropped(), 0);
}

TEST(ring_returns_bags_of_tables_as_samples) {
  AccessRing ring(32);
  for (int round = 0; round < 10; ++round) {
    ring.begin_call();
    ring.begin_segment();
    ring.push(tier_rows({1, 2, 3}), 0, Lengths{2, 0, 1}, false);
    ring.push(tier_rows({4}), 0, Lengths{1}, false);  // further bags of the same table
    ring.begin_segment();
    ring.push(tier_rows({1, 2, 3, 4}), 10, Lengths{1, 1, 1, 1}, true);
    CHECK(popped(ring).rows.empty());  // the call has not ended
    ring.end_call();
    const AccessSamples samples = popped(ring);
    CHECK(samples.rows == (Rows{1, 2, 11, 12, 3, 13, 4, 14}));
    CHECK(samples.lengths == (Lengths{3, 1, 2, 2}));
  }
}

TEST(full_ring_drops_and_counts_whole_calls) {
  AccessRing ring(8);
  push_rows(ring, {0, 1, 2, 3});
  ring.begin_call();
  ring.begin_segment();
  ring.push(tier_rows({8}), 0, Lengths{1}, true);
  ring.push(tier_rows({9, 10}), 0, Lengths{1, 1}, true);  // no room
  ring.push({}, 0, {}, true);                             // though there would be for this one
  ring.end_call();
  CHECK_EQ(ring.dropped(), 3);
  push_rows(ring, {0, 1}, 10);
  CHECK(popped(ring).rows == (Rows{0, 1, 2, 3, 10, 11}));
  push_rows(ring, Rows(8));  // more than it can ever hold
  CHECK_EQ(ring.dropped(), 11);
  CHECK(popped(ring).rows.empty());
}

TEST(ring_discards_a_failed_call) {
  AccessRing ring(8);
  ring.begin_call();
  ring.begin_segment();
  ring.push(tier_rows({1, 2}), 0, Lengths{1, 1}, true);
  push_rows(ring, {3});
  CHECK(popped(ring).rows == (Rows{3}));
}

TEST(ring_reader_gets_whole_calls_once_in_order) {
  AccessRing ring(64);
  constexpr RowId kCalls = 20000;
  std::atomic<bool> done{false};
  Threads threads;
  threads.start([&] {
    std::mt19937_64 random(1);
    RowId next = 0;
    for (RowId i = 0; i < kCalls; ++i) {
      Rows rows(random() % 20);
      for (RowId& row : rows) row = next++;
      const std::uint64_t dropped = ring.dropped();
      push_rows(ring, rows);
      if (ring.dropped() != dropped) next -= rows.size();  // come again
    }
    done.store(true);
  });
  RowId expected = 0;
  for (bool last = false; !last;) {
    last = done.load();
    const AccessSamples samples = popped(ring);
    CHECK_EQ(samples.lengths.size(), samples.rows.size());
    for (const RowId row : samples.rows) CHECK_EQ(row, expected++);
  }
  threads.join();
  CHECK(expected > 0);
}

}  // namespace
