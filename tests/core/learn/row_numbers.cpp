// row_numbers.cpp: RowNumbers against a std::map.
#include "learn/row_numbers.hpp"

#include <map>
#include <random>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(rows_keep_their_numbers_until_others_get_them) {
  for (const std::uint32_t capacity : {1u, 3u, 100u}) {
    RowNumbers numbers(capacity);
    std::map<RowId, RowNumbers::Number> naive;
    std::mt19937_64 random(capacity);
    for (int step = 0; step < 20000; ++step) {
      const RowId row = random() % (3 * capacity) << 31;
      const auto known = naive.find(row);
      CHECK_EQ(numbers.find(row), known == naive.end() ? RowNumbers::kUnknown : known->second);
      if (known != naive.end()) continue;
      if (numbers.size() < capacity) {
        const RowNumbers::Number number = numbers.add(row);
        CHECK_EQ(number, naive.size());
        naive[row] = number;
      } else {
        const auto number = static_cast<RowNumbers::Number>(random() % capacity);
        naive.erase(numbers.row_of(number));
        numbers.replace(number, row);
        naive[row] = number;
      }
      CHECK_EQ(numbers.row_of(naive[row]), row);
      CHECK_EQ(numbers.size(), naive.size());
    }
  }
}

}  // namespace
