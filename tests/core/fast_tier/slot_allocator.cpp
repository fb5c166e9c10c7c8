// slot_allocator.cpp: the order of free and retired slots.
#include "fast_tier/slot_allocator.hpp"

#include <vector>

#include "check.hpp"

namespace {

using namespace tieralloc;

struct Bench {
  EpochManager epochs;
  std::vector<std::uint64_t> words;
  SlotAllocator allocator;

  explicit Bench(Slot slots) : words(slots), allocator(slots, words.data(), epochs) {}
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
  bench.allocator.retire(2);
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  bench.allocator.retire(0);
  bench.allocator.retire(1);
  CHECK_EQ(bench.allocator.take(), 2);  // retired before the reader began
  CHECK_EQ(bench.allocator.take(), kNoSlot);
  reader.end_read();
  CHECK_EQ(bench.allocator.take(), 0);
  CHECK_EQ(bench.allocator.take(), 1);
  CHECK_EQ(bench.allocator.take(), kNoSlot);
}

}  // namespace
