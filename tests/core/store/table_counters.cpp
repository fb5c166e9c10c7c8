// table_counters.cpp: counters of many tables, and of calls in progress.
#include "store/table_counters.hpp"

#include <map>
#include <random>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TEST(table_counters_keep_their_counts_as_the_set_grows) {
  TableCounterSet set;
  std::map<std::uint32_t, std::uint64_t> expected;
  std::mt19937 random(1);
  for (std::uint32_t i = 0; i < 3000; ++i) {
    const auto position = static_cast<std::uint32_t>(random() % (i + 1));
    set.reserve(position + std::size_t{1});
    set.at(position).out_of_range.add(i);
    expected[position] += i;
    CHECK(set.find(position) == &set.at(position));
  }
  for (std::uint32_t position = 0; position < 3000; ++position) {
    const TableCounters* counters = set.find(position);
    CHECK_EQ(counters == nullptr ? 0 : counters->out_of_range.get(), expected[position]);
  }
  CHECK(set.find(1u << 30) == nullptr);
  set.clear();
  for (const auto& [position, count] : expected) {
    CHECK_EQ(set.find(position)->out_of_range.get(), 0);
  }
}

TEST(hits_are_the_lookups_of_a_call_without_its_fetches) {
  TableCounters counters;
  counters.add_lookups(10);
  counters.add_fetches(3);
  counters.add_lookups(5);
  CHECK_EQ(counters.hits.get(), 0);  // until the call ends
  counters.end_call();
  CHECK_EQ(counters.hits.get(), 12);
  CHECK_EQ(counters.on_demand_fetches.get(), 3);
  counters.add_lookups(4);
  counters.add_fetches(1);
  counters.drop_call();
  counters.end_call();
  CHECK_EQ(counters.hits.get(), 12);
  CHECK_EQ(counters.on_demand_fetches.get(), 4);
}

TEST(table_counters_are_read_while_a_call_counts) {
  TableCounterSet set;
  std::atomic<bool> is_over{false};
  Threads threads;
  threads.start([&] {
    for (std::size_t i = 0; i < stressed(20000); ++i) {
      const auto table = static_cast<std::uint32_t>(i % 500);
      set.reserve(table + std::size_t{1});
      TableCounters& counters = set.at(table);
      counters.add_lookups(2);
      counters.add_fetches(1);
      counters.end_call();
    }
    is_over = true;
  });
  threads.start([&] {
    std::uint64_t before = 0;
    while (!is_over) {
      std::uint64_t hits = 0;
      for (std::uint32_t table = 0; table < 500; ++table) {
        if (const TableCounters* counters = set.find(table)) hits += counters->hits.get();
      }
      CHECK(hits >= before);
      before = hits;
    }
  });
  threads.join();
}

}  // namespace
