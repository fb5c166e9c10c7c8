// ghost_queue.cpp: GhostQueue against std::deque.
#include "eviction/ghost_queue.hpp"

#include <algorithm>
#include <deque>
#include <random>

#include "check.hpp"

namespace {

using tieralloc::GhostQueue;

TEST(ghost_queue_random_calls_match_deque) {
  for (std::uint32_t length : {1u, 2u, 5u, 64u, 100u}) {
    std::mt19937_64 random(length);
    GhostQueue queue(length);
    std::deque<GhostQueue::Key> naive;
    const auto shorten = [&] {
      while (naive.size() > length) naive.pop_front();
    };
    for (int step = 0; step < 20000; ++step) {
      const auto key = static_cast<GhostQueue::Key>(random() % (3 * length));
      const auto found = std::find(naive.begin(), naive.end(), key);
      if (random() % 2 == 0 && found == naive.end()) {
        queue.push(key);
        shorten();
        naive.push_back(key);
      } else {
        CHECK_EQ(queue.take(key), found != naive.end());
        if (found != naive.end()) naive.erase(found);
        shorten();
      }
    }
  }
}

TEST(ghost_queue_keys_of_small_rows_are_the_rows) {
  CHECK_EQ(GhostQueue::key_of(0xFFFFFFFFu), 0xFFFFFFFFu);
  CHECK_EQ(GhostQueue::key_of(12345), 12345);
  CHECK(GhostQueue::key_of(std::uint64_t{1} << 32) != GhostQueue::key_of(0));
}

}  // namespace
