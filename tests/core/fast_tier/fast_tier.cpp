// fast_tier.cpp: the fast tier of one row size against a model, and concurrent readers.
#include "fast_tier/fast_tier.hpp"

#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint32_t kStride = 64;
using Bytes = std::vector<std::byte>;

Bytes row_of(std::uint64_t row, std::uint64_t version) {
  Bytes bytes(kStride);
  for (std::size_t i = 0; i < kStride / 8; ++i) {
    const std::uint64_t word = row * 1000000 + version;
    std::memcpy(bytes.data() + 8 * i, &word, 8);
  }
  return bytes;
}

struct Bench {
  EpochManager epochs;
  FastTier tier;

  explicit Bench(Slot capacity, RowId rows = 1000, const std::string& policy = "lru",
                 Slot spares = 8)
      : tier({kStride, rows, capacity, capacity + spares}, {{{0}, 4096}}, policy, 1, epochs) {}

  bool admit(RowId row, std::uint64_t version = 0,
             FastTier::Admit why = FastTier::Admit::on_demand) {
    std::lock_guard lock(tier.mutex());
    return tier.admit({row}, row_of(row, version).data(), why);
  }
  bool store(RowId row, std::uint64_t version) {
    std::lock_guard lock(tier.mutex());
    return tier.store({row}, row_of(row, version).data());
  }
  void touch(RowId row) {
    const Slot slot = slot_of(tier.find(TierRow{row}));
    tier.touch({&slot, 1});
  }

  /// The resident value, if there is one.
  std::optional<Bytes> find(RowId row) {
    std::lock_guard lock(tier.mutex());
    const Entry entry = tier.find(TierRow{row});
    if (entry == kAbsent) return std::nullopt;
    const std::byte* bytes = tier.row(slot_of(entry));
    return Bytes(bytes, bytes + kStride);
  }
  bool has(RowId row, std::uint64_t version) {
    const auto bytes = find(row);
    return bytes.has_value() && *bytes == row_of(row, version);
  }
};

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
    CHECK(bench.store(1, 1));  // moves to another slot: asked about again
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
  EpochManager epochs;
  FastTier tier({kStride, 100, 10, 18}, {{{0}, 4096}, {{30}, 100000}, {{60}, 8192}}, "lru", 1,
                epochs);
  CHECK_EQ(tier.slow_offsets().of({0}), 4096);
  CHECK_EQ(tier.slow_offsets().of({29}), 4096 + 29 * 64);
  CHECK_EQ(tier.slow_offsets().of({30}), 100000);
  CHECK_EQ(tier.slow_offsets().of({59}), 100000 + 29 * 64);
  CHECK_EQ(tier.slow_offsets().of({99}), 8192 + 39 * 64);
}

TEST(slot_is_not_reused_under_a_reader) {
  Bench bench(4);
  for (RowId row = 0; row < 4; ++row) CHECK(bench.admit(row));
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  const std::byte* read = bench.tier.row(slot_of(bench.tier.find(TierRow{0})));
  RowId row = 4;
  while (bench.admit(row)) ++row;
  CHECK_EQ(row, 12);  // eight spares, all given out
  CHECK(!bench.store(100, 1));
  CHECK(!bench.store(row - 1, 1));  // a new value needs a slot of its own, too
  CHECK(std::memcmp(read, row_of(0, 0).data(), kStride) == 0);
  CHECK_EQ(bench.tier.counts().bypassed, 1);
  reader.end_read();
  CHECK(bench.admit(row));
  CHECK(bench.store(100, 1));
}

TEST(update_is_visible_and_keeps_the_old_value_readable) {
  Bench bench(4);
  CHECK(bench.admit(7, 0));
  ReadGuard reader(bench.epochs);
  reader.begin_read();
  const std::byte* old = bench.tier.row(slot_of(bench.tier.find(TierRow{7})));
  CHECK(bench.store(7, 1));
  CHECK(bench.has(7, 1));
  CHECK(std::memcmp(old, row_of(7, 0).data(), kStride) == 0);
  CHECK_EQ(bench.tier.dirty().count(), 1);
  CHECK_EQ(bench.tier.resident_rows(), 1);
}

TEST(dirty_victim_is_readable_until_written_back) {
  Bench bench(2);
  CHECK(bench.store(1, 5));
  CHECK(bench.admit(2) && bench.admit(3));
  CHECK(bench.has(1, 5));
  CHECK_EQ(bench.tier.dirty().num_victims(), 1);
  CHECK_EQ(bench.tier.resident_rows(), 2);
  CHECK(bench.tier.dirty().take_request());
  CHECK(!bench.tier.dirty().take_request());
  std::lock_guard lock(bench.tier.mutex());
  Bytes copies(10 * kStride);
  const std::vector<DirtyRow> rows = bench.tier.collect_dirty(10, false, copies.data());
  CHECK_EQ(rows.size(), 1);
  CHECK_EQ(rows[0].row.value, 1);
  CHECK(std::memcmp(copies.data(), row_of(1, 5).data(), kStride) == 0);
  bench.tier.written_back(rows, false);
  CHECK_EQ(bench.tier.dirty().num_victims(), 1);
  CHECK_EQ(bench.tier.counts().write_back_errors, 1);
  bench.tier.written_back(bench.tier.collect_dirty(10, false, copies.data()), true);
  CHECK_EQ(bench.tier.dirty().num_victims(), 0);
  CHECK_EQ(bench.tier.dirty().count(), 0);
  CHECK_EQ(bench.tier.find(TierRow{1}), kAbsent);
}

TEST(row_updated_during_write_back_stays_dirty) {
  Bench bench(4);
  CHECK(bench.store(1, 1));
  Bytes copies(kStride);
  std::vector<DirtyRow> rows;
  {
    std::lock_guard lock(bench.tier.mutex());
    rows = bench.tier.collect_dirty(1, true, copies.data());
  }
  CHECK(bench.store(1, 2));
  std::lock_guard lock(bench.tier.mutex());
  bench.tier.written_back(rows, true);
  CHECK_EQ(bench.tier.dirty().count(), 1);
  CHECK_EQ(bench.tier.collect_dirty(1, true, copies.data()).size(), 1);
  CHECK(std::memcmp(copies.data(), row_of(1, 2).data(), kStride) == 0);
}

TEST(update_makes_a_victim_resident_again) {
  Bench bench(1);
  CHECK(bench.store(1, 1) && bench.admit(2));
  CHECK_EQ(bench.tier.dirty().num_victims(), 1);
  CHECK(bench.store(1, 2));
  CHECK(bench.has(1, 2));
  CHECK_EQ(bench.tier.dirty().num_victims(), 0);
  CHECK_EQ(bench.tier.resident_rows(), 1);
  CHECK_EQ(bench.tier.dirty().count(), 1);
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
  CHECK(bench.store(1, 9));
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
  CHECK_EQ(bench.tier.bytes().total(), tier_bytes({kStride, 1000, 32, 40}, "lru").total());
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
      Bytes copies(20 * kStride);
      for (std::uint64_t step = 0; step < stressed(60000) && !threads.stopped(); ++step) {
        const RowId row = step % 4 * 2;
        std::lock_guard lock(bench.tier.mutex());
        if (bench.tier.find(TierRow{row}) == kAbsent) {
          admitted += bench.tier.admit({row}, row_of(row, step).data(), FastTier::Admit::prefetch);
        }
        bench.tier.store({row}, row_of(row, step).data());
        bench.tier.written_back(bench.tier.collect_dirty(20, true, copies.data()), true);
      }
      threads.stop();
    });
    threads.join();
    CHECK(useful + bench.tier.counts().prefetches_useless <= admitted);
  }
}

/// What a row's value is, whether the slow tier has it, and what is pinned.
class Model {
 public:
  Model(Slot capacity, const std::string& policy, std::uint64_t seed)
      : bench_(capacity, kRows, policy), random_(seed) {}

  void step() {
    const RowId row = random_() % kRows;
    std::lock_guard lock(bench_.tier.mutex());
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        update(row);
        break;
      case 3:
        reload(row);
        break;
      case 4:
        pin(row);
        break;
      case 5:
        bench_.tier.unpin({row});
        pinned_.erase(row);
        break;
      case 6:
        write_back(random_() % 4 != 0);
        break;
      default:
        fetch(row);
    }
    check();
  }

 private:
  static constexpr RowId kRows = 60;

  void update(RowId row) {
    if (!bench_.tier.store({row}, row_of(row, ++version_).data())) return;
    latest_[row] = version_;
  }

  /// The slow tier has a new value; copies are dropped.
  void reload(RowId row) {
    latest_[row] = slow_[row] = ++version_;
    bench_.tier.discard({row});
    pinned_.erase(row);
  }

  void fetch(RowId row) {
    if (bench_.tier.find(TierRow{row}) != kAbsent) return;
    CHECK_EQ(latest_[row], slow_[row]);  // nothing was lost
    bench_.tier.admit({row}, row_of(row, slow_[row]).data(), FastTier::Admit::on_demand);
  }

  void pin(RowId row) {
    if (pinned_.contains(row) || bench_.tier.find(TierRow{row}) == kAbsent) return;
    try {
      bench_.tier.pins().reserve(1);
    } catch (const std::invalid_argument&) {
      return;
    }
    bench_.tier.pin({row});
    pinned_.insert(row);
  }

  void write_back(bool success) {
    Bytes copies(20 * kStride);
    const bool all = random_() % 2 == 0;
    const auto rows = bench_.tier.collect_dirty(1 + random_() % 20, all, copies.data());
    // Some of them change before they are home.
    for (int i = 0; i < 3; ++i) update(random_() % kRows);
    for (std::size_t i = 0; i < rows.size() && success; ++i) {
      std::uint64_t word;
      std::memcpy(&word, copies.data() + i * kStride, 8);
      CHECK_EQ(word / 1000000, rows[i].row.value);
      slow_[rows[i].row.value] = word % 1000000;
    }
    bench_.tier.written_back(rows, success);
  }

  void check() {
    Slot resident = 0;
    for (RowId row = 0; row < kRows; ++row) {
      const Entry entry = bench_.tier.find(TierRow{row});
      if (entry == kAbsent) {
        CHECK_EQ(latest_[row], slow_[row]);
        CHECK(!pinned_.contains(row));
        continue;
      }
      ++resident;
      CHECK(std::memcmp(bench_.tier.row(slot_of(entry)), row_of(row, latest_[row]).data(),
                        kStride) == 0);
      CHECK_EQ(bench_.tier.is_pinned({row}), pinned_.contains(row));
    }
    CHECK_EQ(resident, bench_.tier.resident_rows() + bench_.tier.dirty().num_victims());
    CHECK(bench_.tier.dirty().count() <= resident);
    CHECK_EQ(bench_.tier.pins().count(), pinned_.size());
  }

  Bench bench_;
  std::mt19937_64 random_;
  std::uint64_t version_ = 0;
  std::map<RowId, std::uint64_t> latest_, slow_;
  std::set<RowId> pinned_;
};

TEST(random_operations_lose_no_value) {
  for (const std::string& policy : eviction_policy_names()) {
    for (Slot capacity : {1u, 2u, 5u, 30u, 60u}) {
      Model model(capacity, policy, capacity);
      for (int i = 0; i < 1500; ++i) model.step();
    }
  }
}

/// Readers follow the index without a lock while rows are updated, evicted and admitted.
void read_beside_updates(const std::string& policy, RowId rows) {
  Bench bench(12, rows, policy);
  Threads threads;
  for (std::uint64_t reader = 0; reader < 2; ++reader) {
    threads.start([&, reader] {
      std::mt19937_64 random(reader);
      while (!threads.stopped()) {
        ReadGuard call(bench.epochs);
        std::vector<Slot> slots;
        call.begin_read();
        for (int i = 0; i < 10; ++i) {
          const RowId row = random() % 40;
          const Entry entry = bench.tier.find(TierRow{row});
          if (entry == kAbsent) continue;
          std::uint64_t words[kStride / 8];
          std::memcpy(words, bench.tier.row(slot_of(entry)), kStride);
          for (std::uint64_t word : words) CHECK_EQ(word, words[0]);
          CHECK_EQ(words[0] / 1000000, row);
          slots.push_back(slot_of(entry));
        }
        call.end_read();
        bench.tier.touch(slots);
      }
    });
  }
  threads.start([&] {
    std::mt19937_64 random(9);
    Bytes copies(20 * kStride);
    for (std::uint64_t step = 0; step < stressed(8000) && !threads.stopped(); ++step) {
      const RowId row = random() % 40;
      std::lock_guard lock(bench.tier.mutex());
      if (random() % 2 == 0) {
        bench.tier.store({row}, row_of(row, step).data());
      } else if (bench.tier.find(TierRow{row}) == kAbsent) {
        bench.tier.admit({row}, row_of(row, step).data(), FastTier::Admit::on_demand);
      }
      if (random() % 8 == 0) {
        bench.tier.written_back(bench.tier.collect_dirty(20, true, copies.data()), true);
      }
    }
    threads.stop();
  });
  threads.join();
}

TEST(readers_see_no_torn_or_foreign_row) {
  for (const std::string& policy : eviction_policy_names()) {
    read_beside_updates(policy, 40);        // a direct index
    read_beside_updates(policy, 1u << 20);  // a hashed one
  }
}

}  // namespace
