// ghost_queue.cpp: a short GhostQueue against a std::deque; a long one takes few bytes.
#include "eviction/ghost_queue.hpp"

#include <algorithm>
#include <deque>
#include <random>

#include "check.hpp"

namespace {

using tieralloc::GhostQueue;
using tieralloc::RowId;

TEST(short_ghost_queue_random_calls_match_deque) {
  for (std::uint32_t length : {1u, 2u, 5u, 31u, 1000u}) {
    std::mt19937_64 random(length);
    GhostQueue queue(length);
    std::deque<RowId> naive;
    const auto shorten = [&] {
      while (naive.size() > length) naive.pop_front();
    };
    for (int step = 0; step < 20000; ++step) {
      const RowId row = random() % (3 * length);
      const auto found = std::find(naive.begin(), naive.end(), row);
      if (random() % 2 == 0 && found == naive.end()) {
        shorten();
        queue.push(row);
        naive.push_back(row);
      } else {
        CHECK_EQ(queue.take(row), found != naive.end());
        if (found != naive.end()) naive.erase(found);
        shorten();
      }
    }
  }
}

TEST(ghost_queue_is_exact_up_to_its_limit) {
  constexpr std::uint32_t kLength = GhostQueue::kMaxExactLength;
  GhostQueue queue(kLength);
  for (RowId row = 0; row < kLength + 10; ++row) queue.push(row);
  CHECK(!queue.take(8));  // of the last push, one more has room
  CHECK(!queue.take(9));
  for (RowId row = 10; row < kLength + 10; ++row) CHECK(queue.take(row));
  CHECK(GhostQueue::bytes(kLength) <= 21 * std::size_t{kLength});
  CHECK(GhostQueue::bytes(kLength + 1) < 3 * std::size_t{kLength});
}

}  // namespace
