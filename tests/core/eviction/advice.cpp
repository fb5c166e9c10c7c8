// advice.cpp: Advice against a std::deque that is searched.
#include "eviction/advice.hpp"

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(advice_is_followed_in_order_unless_it_was_withdrawn) {
  for (const std::uint32_t most : {1u, 3u, 64u}) {
    std::mt19937_64 random(most);
    Advice advice(most);
    std::deque<RowId> naive;
    for (int step = 0; step < 20000; ++step) {
      std::vector<RowId> rows(random() % 4);
      for (RowId& row : rows) row = random() % (3 * most) << 33;  // told apart by their high bits
      const std::uint64_t turn = random() % 100;
      if (turn < 40) {
        std::size_t taken = 0;
        for (const RowId row : rows) {
          if (std::find(naive.begin(), naive.end(), row) != naive.end()) continue;
          if (naive.size() == most) break;
          naive.push_back(row);
          ++taken;
        }
        CHECK_EQ(advice.push(rows), taken);
      } else if (turn < 60) {
        CHECK_EQ(advice.withdraw(rows), std::erase_if(naive, [&](RowId row) {
                   return std::find(rows.begin(), rows.end(), row) != rows.end();
                 }));
      } else if (turn < 99) {
        const RowId expected = naive.empty() ? kNoRow : naive.front();
        if (!naive.empty()) naive.pop_front();
        CHECK_EQ(advice.pop(), expected);
      } else {
        advice.clear();
        naive.clear();
      }
      CHECK_EQ(advice.size(), naive.size());
    }
  }
}

}  // namespace
