// ghost_buckets.cpp: GhostBuckets against a std::deque for each bucket.
#include "eviction/ghost_buckets.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "check.hpp"

namespace {

using tieralloc::GhostBuckets;
using tieralloc::RowId;

TEST(ghost_buckets_random_calls_match_deques) {
  for (std::uint32_t length : {1u, 2u, 5u, 31u, 32u, 64u, 1000u}) {
    std::mt19937_64 random(length);
    GhostBuckets queue(length);
    std::map<std::size_t, std::deque<RowId>> naive;
    for (int step = 0; step < 20000; ++step) {
      const RowId row = random() % (3 * length);
      std::deque<RowId>& bucket = naive[queue.bucket_of(row)];
      const auto shorten = [&] {
        while (bucket.size() > queue.ways()) bucket.pop_front();
      };
      const auto found = std::find(bucket.begin(), bucket.end(), row);
      if (random() % 2 == 0 && found == bucket.end()) {
        shorten();
        queue.push(row);
        bucket.push_back(row);
      } else {
        CHECK_EQ(queue.take(row), found != bucket.end());
        if (found != bucket.end()) bucket.erase(found);
        shorten();
      }
    }
    CHECK_EQ(naive.rbegin()->first + 1, (length + 30) / 31);
  }
}

TEST(ghost_buckets_hold_most_rows_of_its_length) {
  constexpr std::uint32_t kLength = 100000;
  GhostBuckets queue(kLength);
  CHECK(GhostBuckets::bytes(kLength) < kLength * 21 / 10);
  std::mt19937_64 random(1);
  std::vector<RowId> rows(2 * kLength);
  for (RowId& row : rows) queue.push(row = random() >> 20);
  const auto share_held = [&](std::size_t first, std::size_t last) {
    std::size_t held = 0;
    for (std::size_t i = first; i < last; ++i) held += queue.take(rows[rows.size() - 1 - i]);
    return static_cast<double>(held) / static_cast<double>(last - first);
  };
  CHECK(share_held(0, kLength / 2) > 0.99);
  CHECK(share_held(kLength / 2, kLength) > 0.8);
  CHECK(share_held(kLength, kLength * 3 / 2) < 0.3);
  CHECK(share_held(kLength * 3 / 2, 2 * kLength) < 0.01);
}

}  // namespace
