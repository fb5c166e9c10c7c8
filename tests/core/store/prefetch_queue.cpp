// prefetch_queue.cpp: a bounded queue of rows.
#include "store/prefetch_queue.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

std::vector<RowPlace> places(RowId first, RowId count) {
  std::vector<RowPlace> rows;
  for (RowId row = first; row < first + count; ++row) rows.push_back({nullptr, {row}});
  return rows;
}

TEST(full_queue_drops_and_counts_rows) {
  PrefetchQueue queue(10);
  CHECK_EQ(queue.push(places(0, 7)), 7);
  CHECK_EQ(queue.push(places(7, 7)), 3);
  CHECK_EQ(queue.push(places(14, 1)), 0);
  CHECK_EQ(queue.dropped(), 5);
  queue.clear_dropped();
  CHECK_EQ(queue.dropped(), 0);
  CHECK(queue.wait());
  CHECK_EQ(queue.take(4).size(), 4);
  const std::vector<RowPlace> rest = queue.take(100);
  CHECK_EQ(rest.size(), 6);
  CHECK_EQ(rest.front().row.value, 4);
  CHECK_EQ(rest.back().row.value, 9);
  CHECK(queue.take(1).empty());
}

TEST(empty_queue_drops_all_rows) {
  PrefetchQueue queue(0);
  CHECK_EQ(queue.push(places(0, 3)), 0);
  CHECK_EQ(queue.dropped(), 3);
}

TEST(queue_returns_each_row_once) {
  constexpr RowId kRows = 6000;
  PrefetchQueue queue(100);
  std::vector<std::atomic<int>> taken(kRows);
  std::atomic<RowId> count{0};
  Threads threads;
  for (int i = 0; i < 2; ++i) {
    threads.start([&] {
      while (queue.wait()) {
        for (const RowPlace& place : queue.take(7)) {
          ++taken[place.row.value];
          ++count;
        }
      }
    });
  }
  for (RowId producer = 0; producer < 2; ++producer) {
    threads.start([&, producer] {
      for (RowId row = producer; row < kRows;) {
        if (queue.push(places(row, 1)) == 1) {
          row += 2;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  wait_until([&] { return count == kRows; });
  queue.stop();
  threads.join();
  for (const auto& times : taken) CHECK_EQ(times.load(), 1);
}

TEST(stopped_queue_wakes_waiters) {
  PrefetchQueue queue(10);
  Threads threads;
  for (int i = 0; i < 3; ++i) threads.start([&] { CHECK(!queue.wait()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  queue.stop();
  threads.join();
}

}  // namespace
