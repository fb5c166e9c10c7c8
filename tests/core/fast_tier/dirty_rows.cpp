// dirty_rows.cpp: the order of write-backs, and when they are due.
#include "fast_tier/dirty_rows.hpp"

#include <vector>

#include "check.hpp"

namespace {

using namespace tieralloc;

/// 32 slots for resident rows and 8 spare ones; slot s holds row 100 + s.
struct Bench {
  SlotTable slots{40};
  DirtyRows dirty{{.stride = 64, .rows = 1000, .capacity = 32, .slots = 40}, slots};

  void make_dirty(Slot slot) {
    slots.assign(slot, {100 + slot}, kDirty);
    dirty.count_dirty();
  }

  std::vector<Slot> collect(std::size_t max_rows, bool residents) {
    std::vector<Slot> found;
    const auto rows = dirty.collect(max_rows, residents, [&](Slot slot, std::size_t place) {
      CHECK_EQ(place, found.size());
      found.push_back(slot);
    });
    for (const DirtyRow& row : rows) CHECK_EQ(row.row.value, 100 + row.slot);
    return found;
  }
};

TEST(dirty_rows_collects_victims_first) {
  Bench bench;
  for (const Slot slot : {3, 5, 7}) bench.make_dirty(slot);
  bench.dirty.add_victim(7);
  CHECK(bench.collect(8, false) == std::vector<Slot>{7});
  CHECK(bench.collect(2, true) == (std::vector<Slot>{7, 3}));
  CHECK(bench.collect(2, true) == (std::vector<Slot>{7, 5}));  // continues after slot 3
}

TEST(dirty_rows_retries_a_failed_victim_last) {
  Bench bench;
  for (const Slot slot : {1, 2, 3}) {
    bench.make_dirty(slot);
    bench.dirty.add_victim(slot);
  }
  CHECK(bench.collect(1, false) == std::vector<Slot>{1});
  bench.dirty.retry(1);
  CHECK(bench.collect(8, false) == (std::vector<Slot>{2, 3, 1}));
}

TEST(dirty_rows_is_due_between_its_thresholds) {
  Bench bench;
  for (Slot slot = 0; slot < 4; ++slot) bench.make_dirty(slot);
  CHECK(!bench.dirty.needs_write_back());
  CHECK(!bench.dirty.take_request());
  bench.make_dirty(4);  // more than an eighth of the capacity
  CHECK(bench.dirty.take_request());
  CHECK(!bench.dirty.take_request());
  CHECK(bench.dirty.needs_write_back());
  for (Slot slot = 0; slot < 2; ++slot) bench.dirty.clean(slot);
  CHECK(bench.dirty.needs_write_back());
  bench.dirty.clean(2);  // a sixteenth is left
  CHECK(!bench.dirty.needs_write_back());
  CHECK_EQ(bench.dirty.count(), 2);
}

TEST(dirty_rows_requests_write_back_for_a_victim) {
  Bench bench;
  bench.make_dirty(9);
  bench.dirty.add_victim(9);
  CHECK(bench.dirty.take_request());
  CHECK(bench.dirty.needs_write_back());
  bench.dirty.remove_victim(9);
  CHECK(!bench.dirty.needs_write_back());
}

}  // namespace
