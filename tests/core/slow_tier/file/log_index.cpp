// log_index.cpp: the index of a log segment beside std::map.
#include "slow_tier/file/log_index.hpp"

#include <map>
#include <random>

#include "check.hpp"

using namespace tieralloc;

namespace {

TEST(log_index_equals_a_map) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    const std::uint64_t rows = std::uint64_t{1} << (random() % 40 + 1);
    std::map<std::uint64_t, std::uint64_t> model;
    LogIndex index;
    std::mutex mutex;
    CHECK_EQ(index.find(64), 0);
    for (int call = 0; call < 20; ++call) {
      const std::size_t n = random() % 400;
      index.reserve(n, mutex);
      const std::size_t bytes = index.bytes();
      for (std::size_t i = 0; i < n; ++i) {
        const LogIndex::Entry entry{(random() % rows + 1) * kCacheLine, random() | 1};
        index.put(entry);
        model[entry.row] = entry.at;
      }
      CHECK_EQ(index.bytes(), bytes);
      CHECK_EQ(index.size(), model.size());
      for (int i = 0; i < 100; ++i) {
        const std::uint64_t row = (random() % rows + 1) * kCacheLine;
        CHECK_EQ(index.find(row), model.contains(row) ? model[row] : 0);
      }
    }
    auto expected = model.begin();
    for (const LogIndex::Entry& entry : index.sorted()) {
      CHECK_EQ(entry.row, expected->first);
      CHECK_EQ(entry.at, expected->second);
      ++expected;
    }
    CHECK(expected == model.end());
  }
}

}  // namespace
