// slot_allocator.cpp: the order of free and retired slots, and their words.
#include "fast_tier/slot_allocator.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

struct Bench {
  EpochManager epochs;
  SlotTable slots;
  SlotAllocator allocator;

  explicit Bench(Slot slots) : slots(slots, 1000), allocator(this->slots, epochs) {}
};

TEST(allocator_takes_slots_in_ascending_order) {
  Bench bench(3);
  for (Slot slot = 0; slot < 3; ++slot) CHECK_EQ(bench.allocator.take(), slot);
  CHECK_EQ(bench.allocator.take(), kNoSlot);
  bench.allocator.free(1);
  CHECK_EQ(bench.allocator.take(), 1);
}

TEST(allocator_reuses_retired_slots_after_their_readers) {
  Bench bench(3);
  for (Slot slot = 0; slot < 3; ++slot) bench.allocator.take();
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  bench.allocator.retire(2);
  bench.allocator.retire(0);
  CHECK_EQ(bench.allocator.take(), kNoSlot);
  reader.begin_read();  // of a later epoch
  bench.allocator.retire(1);
  CHECK_EQ(bench.allocator.take(), 2);
  CHECK_EQ(bench.allocator.take(), 0);
  CHECK_EQ(bench.allocator.take(), kNoSlot);
  reader.end_read();
  CHECK_EQ(bench.allocator.take(), 1);
  CHECK_EQ(bench.allocator.take(), kNoSlot);
}

/// Words of either width keep rows, states and next slots apart.
TEST(slot_table_keeps_the_widest_rows_and_states) {
  for (const RowId rows : {RowId{1} << 29, (RowId{1} << 29) + 1, RowId{1} << 60}) {
    SlotTable slots(4, rows);
    CHECK_EQ(SlotTable::bytes_per_slot(rows), rows > RowId{1} << 29 ? 8 : 4);
    for (unsigned states = 0; states < 8; ++states) {
      slots.assign(1, {rows - 1}, states);
      slots.assign(2, {0}, 7 - states);
      slots.set_next(3, kNoSlot);
      CHECK_EQ(slots.row(1).value, rows - 1);
      CHECK_EQ(slots.states(1), states);
      CHECK_EQ(slots.states(2), 7 - states);
      slots.add(1, kDirty);
      slots.remove(2, kPinned | kStaged);
      CHECK_EQ(slots.states(1), states | kDirty);
      CHECK_EQ(slots.states(2), (7 - states) & kDirty);
      CHECK_EQ(slots.row(1).value, rows - 1);
      CHECK_EQ(slots.row(2).value, 0);
      CHECK_EQ(slots.next(3), kNoSlot);
    }
  }
}

}  // namespace
