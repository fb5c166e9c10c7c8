// fast_tier.cpp: slots, eviction, updates, prefetches and pins of the fast tier of one row size.
#include "fast_tier/fast_tier.hpp"

#include <atomic>
#include <cstring>
#include <optional>
#include <vector>

#include "check.hpp"
#include "fast_tier/fast_tier_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using namespace tieralloc::fast_tier_bench;

TEST(admit_evicts_the_policys_victim) {
  Bench bench(3);
  for (RowId row : {1, 2, 3}) CHECK(bench.admit(row));
  bench.touch(1);
  CHECK(bench.admit(4));
  CHECK(bench.has(1, 0) && !bench.find(2) && bench.has(3, 0) && bench.has(4, 0));
  CHECK_EQ(bench.tier.resident_rows(), 3);
  CHECK_EQ(bench.tier.counts().evictions, 1);
}

TEST(saturation_follows_the_policy) {
  for (const char* policy : {"clock", "sieve", "s3fifo"}) {
    Bench bench(4, 1000, policy);
    const auto flagged = [&](RowId row) { return is_saturated(bench.tier.find(TierRow{row})); };
    const auto touch = [&](RowId row) {
      bench.touch(row);
      const Entry entry = bench.tier.find(TierRow{row});
      const Slot slot = slot_of(entry);
      std::uint32_t place = 0;
      if (bench.tier.find_saturated({&slot, 1}, &place) > 0)
        bench.tier.note_saturation({row}, entry);
    };
    for (RowId row : {1, 2, 3, 4}) CHECK(bench.admit(row));
    CHECK(!flagged(1));
    for (int i = 0; i < 3; ++i) touch(1);
    CHECK(flagged(1) && !flagged(2));
    CHECK(bench.update(1, 1));  // moves to another slot: asked about again
    touch(1);
    CHECK(flagged(1));
    // The hand passes over row 1 sooner or later, and a hit counts again from then on.
    for (RowId row = 10; row < 100 && flagged(1); ++row) {
      for (int i = 0; i < 3; ++i) touch(row - 1 >= 10 ? row - 1 : 2);
      CHECK(bench.admit(row));
    }
    CHECK(!flagged(1));
  }
}

TEST(slow_offsets_follow_the_tables) {
  const auto offsets_of = [](const PageLayout& pages) {
    return SlowOffsets({{{0}, 4096, pages}, {{30}, 102400, pages}, {{60}, 8192, pages}});
  };
  const SlowOffsets dense = offsets_of(PageLayout::dense(64));
  CHECK_EQ(dense.of({0}).offset(), 4096);
  CHECK_EQ(dense.of({29}).offset(), 4096 + 29 * 64);
  CHECK_EQ(dense.of({30}).offset(), 102400);
  CHECK_EQ(dense.of({59}).offset(), 102400 + 29 * 64);
  CHECK_EQ(dense.of({99}).offset(), 8192 + 39 * 64);
  const SlowOffsets paged = offsets_of(PageLayout::paged(1024));  // three rows a page
  CHECK_EQ(paged.of({29}).page, 4096 + 9 * 4096);
  CHECK_EQ(paged.of({29}).at, 2 * 1024);
  CHECK_EQ(paged.of({30}).offset(), 102400);
  CHECK_EQ(paged.of({64}).page, 8192 + 4096);
  CHECK_EQ(paged.of({64}).at, 1024);
}

TEST(slow_offsets_have_the_layout_of_each_extent) {
  const SlowOffsets offsets(
      {{{0}, 13, PageLayout::strided(20, 50)}, {{10}, 7, PageLayout::strided(20, 20)}});
  CHECK_EQ(offsets.of({9}).offset(), 13 + 9 * 50);
  CHECK_EQ(offsets.of({9}).page_bytes, 20);
  CHECK_EQ(offsets.of({12}).offset(), 7 + 2 * 20);
}

TEST(slot_is_not_reused_under_a_reader) {
  for (bool in_place : {false, true}) {
    Bench bench(4, 1000, "lru", in_place);
    for (RowId row = 0; row < 4; ++row) CHECK(bench.admit(row));
    ReadGuard reader(bench.epochs);
    reader.begin_read();
    const std::byte* read = bench.tier.row(slot_of(bench.tier.find(TierRow{0})));
    RowId row = 4;
    while (bench.admit(row)) ++row;
    CHECK_EQ(row, 12);  // eight spares, all given out
    // A new value needs a free slot. Without one the copy is removed, if the slow tier has the
    // value.
    CHECK_EQ(bench.update(row - 1, 1), !in_place);
    CHECK_EQ(bench.find(row - 1).has_value(), in_place);
    CHECK_EQ(bench.update(100, 1), !in_place);
    CHECK(std::memcmp(read, row_of(0, 0).data(), kStride) == 0);
    CHECK_EQ(bench.tier.counts().bypassed, 1);
    reader.end_read();
    CHECK(bench.admit(row));
    CHECK(bench.update(row, 1));
    CHECK(bench.has(row, 1));
  }
}

TEST(update_is_visible_and_keeps_the_old_value_readable) {
  Bench bench(4);
  CHECK(bench.admit(7, 0));
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  const std::byte* old = bench.tier.row(slot_of(bench.tier.find(TierRow{7})));
  CHECK(bench.update(7, 1));
  CHECK(bench.has(7, 1));
  CHECK(std::memcmp(old, row_of(7, 0).data(), kStride) == 0);
  CHECK_EQ(bench.tier.num_dirty(), 0);
  CHECK_EQ(bench.tier.resident_rows(), 1);
}

TEST(update_of_an_absent_row_makes_no_copy) {
  Bench bench(4);
  CHECK(bench.update(7, 1));
  CHECK(!bench.find(7));
  CHECK_EQ(bench.tier.resident_rows(), 0);
}

TEST(update_of_a_pinned_row_needs_a_slot) {
  Bench bench(4);
  for (RowId row = 0; row < 4; ++row) CHECK(bench.admit(row));
  {
    std::lock_guard lock(bench.tier.mutex());
    bench.tier.pins().reserve(1);
    bench.tier.pin({0});
  }
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  for (RowId row = 4; bench.admit(row); ++row) {
  }
  CHECK(!bench.update(0, 1));
  CHECK(bench.has(0, 0));
  reader.end_read();
  CHECK(bench.update(0, 1));
  CHECK(bench.has(0, 1));
}

TEST(discarded_row_is_absent_and_unpinned) {
  Bench bench(4);
  CHECK(bench.admit(1) && bench.admit(2));
  std::lock_guard lock(bench.tier.mutex());
  bench.tier.pins().reserve(1);
  bench.tier.pin({1});
  for (RowId row : {1, 2, 3}) bench.tier.discard({row});
  CHECK_EQ(bench.tier.pins().count(), 0);
  CHECK_EQ(bench.tier.resident_rows(), 0);
  CHECK_EQ(bench.tier.find(TierRow{1}), kAbsent);
}

TEST(staged_row_is_readable_until_clean) {
  Bench bench(2, 1000, "lru", true);
  CHECK(bench.update(1, 5));
  CHECK(bench.has(1, 5));
  CHECK_EQ(bench.tier.resident_rows(), 0);
  CHECK_EQ(bench.tier.num_dirty(), 1);
  CHECK(!bench.tier.is_skippable());
  CHECK(bench.update(1, 6));
  CHECK(bench.has(1, 6));
  CHECK_EQ(bench.tier.num_dirty(), 1);
  bench.clean(1);
  bench.clean(1);
  CHECK(!bench.find(1));
  CHECK_EQ(bench.tier.num_dirty(), 0);
  CHECK(bench.tier.is_skippable());
}

TEST(dirty_victim_is_readable_until_clean) {
  Bench bench(2, 1000, "lru", true);
  CHECK(bench.admit(1) && bench.update(1, 5));
  CHECK(bench.admit(2) && bench.admit(3));
  CHECK(bench.has(1, 5));
  CHECK_EQ(bench.tier.resident_rows(), 2);
  CHECK_EQ(bench.tier.num_dirty(), 1);
  bench.clean(1);
  CHECK(!bench.find(1));
}

TEST(clean_keeps_a_resident_copy) {
  Bench bench(2, 1000, "lru", true);
  CHECK(bench.admit(1) && bench.update(1, 5));
  bench.clean(1);
  CHECK(bench.has(1, 5));
  CHECK_EQ(bench.tier.num_dirty(), 0);
  CHECK(bench.admit(2) && bench.admit(3));
  CHECK(!bench.find(1));
}

TEST(pinned_rows_are_not_evicted) {
  Bench bench(3);
  CHECK(bench.admit(1) && bench.admit(2));
  {
    std::lock_guard lock(bench.tier.mutex());
    bench.tier.pins().reserve(2);
    bench.tier.pin({1});
    bench.tier.pin({2});
    CHECK_THROWS(std::invalid_argument, bench.tier.pins().reserve(1),
                 "expected at most 2 pinned rows in the fast tier of 3 slots for rows of 64 bytes");
  }
  for (RowId row = 10; row < 40; ++row) CHECK(bench.admit(row));
  CHECK(bench.update(1, 9));
  for (RowId row = 40; row < 80; ++row) CHECK(bench.admit(row));
  CHECK(bench.has(1, 9) && bench.has(2, 0));
  {
    std::lock_guard lock(bench.tier.mutex());
    bench.tier.unpin({1});
    bench.tier.unpin({2});
    bench.tier.unpin({3});
    CHECK_EQ(bench.tier.pins().count(), 0);
  }
  for (RowId row = 80; row < 90; ++row) CHECK(bench.admit(row));
  CHECK(!bench.find(2));
}

TEST(all_rows_may_be_pinned_if_all_fit) {
  Bench bench(5, 5);
  for (RowId row = 0; row < 5; ++row) CHECK(bench.admit(row));
  std::lock_guard lock(bench.tier.mutex());
  bench.tier.pins().reserve(5);
  for (RowId row = 0; row < 5; ++row) bench.tier.pin({row});
  CHECK_EQ(bench.tier.pins().count(), 5);
  CHECK_THROWS(std::invalid_argument, bench.tier.pins().reserve(1), "expected at most 5");
}

TEST(new_policy_keeps_the_eviction_order) {
  Bench bench(32, 1000, "s3fifo");
  for (RowId row = 0; row < 32; ++row) bench.admit(row);
  for (int hit = 0; hit < 5; ++hit) {
    for (RowId row : {3, 4, 5}) bench.touch(row);
  }
  {
    std::lock_guard lock(bench.tier.mutex());
    const auto former =
        bench.tier.use_policy(make_eviction_policy("lru", bench.tier.eviction_config()), "lru");
    CHECK_EQ(former->evict(), kNoSlot);
  }
  for (RowId row = 100; row < 129; ++row) bench.admit(row);
  for (RowId row : {3, 4, 5}) CHECK(bench.find(row));
  bench.touch(3);
  bench.admit(200);
  bench.admit(201);
  CHECK(bench.find(3) && !bench.find(4) && !bench.find(5));
  CHECK_EQ(bench.tier.bytes().total(), tier_bytes({kStride, kStride, 1000, 32, 40}, "lru").total());
}

TEST(prefetched_row_evicted_unused_is_useless) {
  Bench bench(2);
  CHECK(bench.admit(1, 0, FastTier::Admit::prefetch));
  CHECK(bench.admit(2, 0, FastTier::Admit::prefetch));
  CHECK(bench.tier.clear_prefetched({1}));
  CHECK(!bench.tier.clear_prefetched({1}));
  CHECK(bench.admit(3) && bench.admit(4));
  CHECK_EQ(bench.tier.counts().prefetches_useless, 1);
}

/// Readers may use a prefetched row at the very moment when it is updated or leaves.
TEST(prefetched_row_counts_once) {
  for (RowId rows : {RowId{8}, RowId{1} << 20}) {
    Bench bench(2, rows);
    std::atomic<std::uint64_t> useful{0};
    std::uint64_t admitted = 0;
    Threads threads;
    threads.start([&] {
      while (!threads.stopped()) {
        for (RowId row = 0; row < 8; ++row) useful += bench.tier.clear_prefetched({row}) ? 1 : 0;
      }
    });
    threads.start([&] {
      for (std::uint64_t step = 0; step < stressed(60000) && !threads.stopped(); ++step) {
        const RowId row = step % 4 * 2;
        std::lock_guard lock(bench.tier.mutex());
        if (bench.tier.find(TierRow{row}) == kAbsent) {
          admitted += bench.tier.admit({row}, row_of(row, step).data(), FastTier::Admit::prefetch);
        }
        bench.tier.update({row}, row_of(row, step).data());
      }
      threads.stop();
    });
    threads.join();
    CHECK(useful + bench.tier.counts().prefetches_useless <= admitted);
  }
}

}  // namespace
