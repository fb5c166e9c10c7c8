// row_index.cpp: all indexes against std::unordered_map, and with concurrent readers.
#include "index/row_index.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "check.hpp"
#include "index/compact_index.hpp"
#include "index/direct_index.hpp"
#include "index/hash_index.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

/// Puts, erasures and flags of rows that `draw` makes, at most `most` of them at a time.
template <typename Draw>
void compare_with_map(RowIndex& index, std::size_t most, Slot slots, int steps, Draw draw) {
  std::mt19937_64 random(most);
  std::unordered_map<RowId, Entry> map;
  std::vector<RowId> rows;
  for (int step = 0; step < steps; ++step) {
    const RowId row = draw(random);
    const auto known = map.find(row);
    const Entry entry = make_entry(static_cast<Slot>(random() % slots), random() % 2 == 0);
    switch (random() % 4) {
      case 0:
        if (known != map.end()) {
          index.erase(row);
          map.erase(known);
        }
        break;
      case 1: {
        const bool flagged = known != map.end() && is_prefetched(known->second);
        CHECK_EQ(index.clear_flag(row, kPrefetchedFlag), flagged);
        if (flagged) known->second = make_entry(slot_of(known->second), false);
        break;
      }
      default:
        if (map.size() == most && known == map.end()) break;
        index.put(row, entry);
        map[row] = entry;
    }
    const auto expected = map.find(row);
    CHECK_EQ(index.find(row), expected == map.end() ? kAbsent : expected->second);
    rows.push_back(row);
    if (rows.size() < 200) continue;
    std::vector<Entry> entries(rows.size());
    index.find(rows, entries.data());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto it = map.find(rows[i]);
      CHECK_EQ(entries[i], it == map.end() ? kAbsent : it->second);
    }
    rows.clear();
  }
}

TEST(direct_index_is_a_map) {
  for (RowId rows : {1u, 2u, 100u, 5000u}) {
    DirectIndex index(rows);
    compare_with_map(index, rows, 1000, 20000, [rows](auto& random) { return random() % rows; });
  }
}

TEST(hash_index_is_a_map) {
  for (Slot slots : {1u, 4u, 5u, 8u, 9u, 60u, 1000u}) {
    HashIndex index(RowId{1} << 32, slots);
    // Rows of a small range, which recur, spread over all numbers.
    compare_with_map(index, slots, slots, 30000, [slots](auto& random) {
      return random() % (3 * slots) * 0x1234567u % (RowId{1} << 32);
    });
  }
}

TEST(compact_index_is_a_map) {
  for (Slot slots : {1u, 4u, 12u, 13u, 60u, 1000u}) {
    for (RowId rows : {3 * slots, 40 * slots, 1u << 20}) {
      CHECK(CompactIndex::can_hold(rows, slots));
      CompactIndex index(rows, slots);
      compare_with_map(index, std::min<RowId>(rows, slots), slots, 30000,
                       [&](auto& random) { return random() % (3 * slots) * 0x1234567u % rows; });
    }
  }
}

/// Rows below `all` that belong to one bucket of a compact index.
std::vector<RowId> rows_of_a_bucket(RowId all, Slot slots) {
  const CompactTable table(nullptr, slots * 100 / 1275 + 1, all, slots);
  std::vector<RowId> rows;
  for (RowId row = 0; rows.size() < slots; ++row) {
    if (table.place_of(row).bucket == 3) rows.push_back(row);
  }
  return rows;
}

/// All rows belong to one bucket, so that most are in the overflow table, and move out of it.
TEST(compact_index_of_rows_of_one_bucket_is_a_map) {
  constexpr RowId kAll = 1 << 20;
  constexpr Slot kSlots = 200;
  const std::vector<RowId> rows = rows_of_a_bucket(kAll, kSlots);
  CompactIndex index(kAll, kSlots);
  compare_with_map(index, kSlots, kSlots, 60000,
                   [&](auto& random) { return rows[random() % rows.size()]; });
}

/// Different rows of a bucket have different cells.
TEST(compact_table_tells_all_rows_apart) {
  for (RowId rows : {RowId{1}, RowId{2}, RowId{3}, RowId{100}, RowId{4096}, RowId{70001}}) {
    for (std::size_t buckets : {1, 2, 3, 100, 255, 4097}) {
      const CompactTable table(nullptr, buckets, rows, 1000);
      if (table.width > CompactTable::kMaxWidth) continue;
      std::vector<std::pair<std::size_t, std::uint32_t>> places;
      for (RowId row = 0; row < rows; ++row) {
        const CompactTable::Place place = table.place_of(row);
        CHECK(place.bucket < buckets);
        CHECK_EQ(place.row_part & (table.slot_mask | kEntryFlags), 0);
        places.emplace_back(place.bucket, place.row_part);
      }
      std::sort(places.begin(), places.end());
      CHECK(std::adjacent_find(places.begin(), places.end()) == places.end());
    }
  }
}

TEST(compact_index_holds_some_2_to_the_25_rows) {
  for (Slot slots : {1000u, 100'000u, 1'000'000u, 10'000'000u}) {
    CHECK(CompactIndex::can_hold(RowId{1} << 24, slots));
    CHECK(!CompactIndex::can_hold(RowId{1} << 28, slots));
  }
}

TEST(compact_index_overflows_little) {
  const auto slots = static_cast<Slot>(repeated(200'000));
  CompactIndex index(RowId{1} << 22, slots);
  std::mt19937_64 random(1);
  std::unordered_map<RowId, Slot> map;
  for (std::size_t step = 0; step < 5 * slots; ++step) {  // as an eviction policy at random
    const RowId row = random() % (RowId{1} << 22);
    if (!map.emplace(row, step % slots).second) continue;
    index.put(row, make_entry(step % slots, false));
    if (map.size() <= slots) continue;
    index.erase(map.begin()->first);
    map.erase(map.begin());
  }
  CHECK(static_cast<double>(index.num_overflowed()) < 0.055 * slots);
  for (const auto& [row, slot] : map) CHECK_EQ(index.find(row), make_entry(slot, false));
}

/// Rows overflow from their bucket, and the rows in it are erased: every bucket may have
/// overflowed. A search for an absent row ends nevertheless.
TEST(hash_index_search_ends_if_all_buckets_overflowed) {
  constexpr Slot kSlots = 8;  // two buckets, which random rows fill like this once in 2^14 trials
  HashIndex index(RowId{1} << 32, kSlots);
  std::mt19937_64 random(1);
  for (std::size_t trial = 0; trial < 60000; ++trial) {
    std::vector<RowId> rows(15);
    for (RowId& row : rows) row = random() >> 32;
    for (int i = 0; i < 8; ++i) index.put(rows[i], make_entry(0, false));
    for (int i = 0; i < 7; ++i) index.erase(rows[i]);
    for (int i = 8; i < 15; ++i) index.put(rows[i], make_entry(1, false));
    CHECK_EQ(index.find(rows[0]), kAbsent);
    CHECK(!index.clear_flag(rows[0], kPrefetchedFlag));
    index.erase(rows[0]);
    for (int i = 7; i < 15; ++i) {
      CHECK_EQ(index.find(rows[i]), make_entry(i == 7 ? 0 : 1, false));
      index.erase(rows[i]);
    }
  }
}

TEST(hash_index_holds_the_widest_rows_and_slots) {
  // 64 bits: 44 of the row, two flags, 18 of the slot.
  const RowId rows = (RowId{1} << 44) - 1;
  const Slot slots = (1u << 18) - 1;
  CHECK(HashIndex::can_hold(rows, slots));
  CHECK(!HashIndex::can_hold(rows + 1, slots));
  CHECK(!HashIndex::can_hold(rows, slots + 1));
  CHECK_THROWS(std::invalid_argument, HashIndex(rows + 1, slots),
               "expected both numbers in 62 bits");
  HashIndex index(rows, slots);
  for (RowId row : {RowId{0}, rows - 1}) {
    for (Slot slot : {Slot{0}, slots - 1}) {
      for (bool flag : {false, true}) {
        const Entry entry = make_entry(slot, flag);
        index.put(row, entry);
        CHECK_EQ(index.find(row), entry);
        index.set_flag(row, entry, kSaturatedFlag);
        CHECK_EQ(index.find(row), entry | kSaturatedFlag);
        index.set_flag(row, entry, kPrefetchedFlag);  // no longer what it says
        CHECK_EQ(index.find(row), entry | kSaturatedFlag);
        CHECK(index.clear_flag(row, kSaturatedFlag));
        CHECK(!index.clear_flag(row, kSaturatedFlag));
        CHECK_EQ(index.find(row), entry);
      }
    }
  }
}

TEST(indexes_take_few_bytes_per_slot) {
  for (Slot slots = 1; slots < 100000; slots = slots * 3 / 2 + 1) {
    CHECK(HashIndex::bytes_for(slots) <= std::size_t{12} * slots + kCacheLine);
    CHECK(CompactIndex::bytes_for(slots) <= std::size_t{6} * slots + 2 * kCacheLine);
  }
}

TEST(smaller_index_is_chosen) {
  for (RowId rows : {RowId{10}, RowId{1000}, RowId{100000}}) {
    for (Slot slots : {10u, 300u, 30000u}) {
      if (slots > rows + 1024) continue;
      const auto index = make_row_index(rows, slots);
      const bool direct = DirectIndex::bytes_for(rows) <= CompactIndex::bytes_for(slots);
      CHECK_EQ(std::string(index->kind()), direct ? "direct" : "hash");
      CHECK_EQ(row_index_bytes(rows, slots), direct ? rows * 4 : CompactIndex::bytes_for(slots));
      CHECK(index->bytes() >= row_index_bytes(rows, slots));
      CHECK_EQ(std::string(make_row_index(rows, slots, rows * 4)->kind()), "direct");
      CHECK_EQ(row_index_bytes(rows, slots, rows * 4), rows * 4);
      CHECK_EQ(row_index_bytes(rows, slots, rows * 4 - 1), row_index_bytes(rows, slots));
    }
  }
}

/// Rows 0 … 63 with slots of their own numbers.
constexpr RowId kRows = 64;
Entry entry_for(RowId row, std::uint64_t version) {
  return make_entry(static_cast<Slot>(row), version % 2 == 0);
}

/// One writer makes rows come, go and change; even rows never go. No reader finds an entry of
/// another row, nor misses an even one.
void read_beside_a_writer(RowIndex& index, const std::vector<RowId>& numbers) {
  for (RowId row = 0; row < kRows; row += 2) index.put(numbers[row], entry_for(row, 0));
  Threads threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.start([&, reader] {
      std::mt19937_64 random(static_cast<std::uint64_t>(reader));
      std::vector<RowId> rows(100);
      std::vector<Entry> entries(rows.size());
      while (!threads.stopped()) {
        std::vector<RowId> which(rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
          which[i] = random() % kRows;
          rows[i] = numbers[which[i]];
        }
        index.find(rows, entries.data());
        for (std::size_t i = 0; i < rows.size(); ++i) {
          if (entries[i] != kAbsent) {
            CHECK_EQ(slot_of(entries[i]), which[i]);
          } else {
            CHECK(which[i] % 2 != 0);
          }
        }
        index.clear_flag(rows[0], kPrefetchedFlag);
      }
    });
  }
  threads.start([&] {
    std::mt19937_64 random(7);
    for (std::size_t step = 1; step < stressed(20000); ++step) {
      const RowId row = random() % kRows;
      if (row % 2 == 1 && index.find(numbers[row]) != kAbsent) {
        index.erase(numbers[row]);
      } else {
        index.put(numbers[row], entry_for(row, step));
      }
    }
    threads.stop();
  });
  threads.join();
}

std::vector<RowId> numbers_at(RowId scale) {
  std::vector<RowId> numbers;
  for (RowId row = 0; row < kRows; ++row) numbers.push_back(row * scale);
  return numbers;
}

TEST(direct_index_is_read_beside_a_writer) {
  DirectIndex index(kRows);
  read_beside_a_writer(index, numbers_at(1));
}

TEST(hash_index_is_read_beside_a_writer) {
  // As full as the index gets, where a bucket or two overflow; other rows, other buckets.
  for (RowId scale : {RowId{1}, RowId{3}, RowId{1} << 20, RowId{982451653}, RowId{57885161}}) {
    HashIndex index(kRows * scale, kRows);
    read_beside_a_writer(index, numbers_at(scale));
  }
}

/// Of one bucket and its overflow: rows move from the one to the other all the time.
TEST(compact_index_is_read_beside_a_writer) {
  constexpr RowId kAll = 1 << 16;
  CompactIndex index(kAll, kRows);
  read_beside_a_writer(index, rows_of_a_bucket(kAll, kRows));
}

/// A row that is put again may get another cell of its bucket. A concurrent reader of the cells may
/// see both entries; it must return one of them.
void check_never_mixes(RowIndex& index) {
  constexpr Slot kFirst = 1;
  constexpr Slot kSecond = 2;  // together they make 3
  // Rows between the first cell and the last: a reader takes some time.
  for (RowId row = 7; row < 13; ++row) index.put(row, make_entry(0, false));
  index.erase(7);
  Threads threads;
  threads.start([&] {
    const std::vector<RowId> rows(50, 7);
    std::vector<Entry> entries(rows.size());
    while (!threads.stopped()) {
      index.find(rows, entries.data());
      for (Entry entry : entries) {
        CHECK(entry == kAbsent || slot_of(entry) == kFirst || slot_of(entry) == kSecond);
      }
    }
  });
  threads.start([&] {
    for (std::size_t step = 0; step < stressed(400000) && !threads.stopped(); ++step) {
      index.put(7, make_entry(kFirst, false));
      index.erase(7);
      index.put(6, make_entry(0, false));  // takes the first cell
      index.put(7, make_entry(kSecond, false));
      index.erase(7);
      index.erase(6);
    }
    threads.stop();
  });
  threads.join();
}

TEST(indexes_never_mix_two_entries_of_a_row) {
  HashIndex hash(100, 4);  // one bucket
  check_never_mixes(hash);
  CompactIndex compact(100, 4);
  check_never_mixes(compact);
}

TEST(flag_is_cleared_by_one_caller) {
  const auto count_clears = [](RowIndex& index) {
    constexpr RowId kFlagged = 500;
    const auto rounds = stressed(20);
    for (std::size_t round = 0; round < rounds; ++round) {
      for (RowId row = 0; row < kFlagged; ++row) {
        index.put(row, make_entry(static_cast<Slot>(row), true));
      }
      std::atomic<std::size_t> cleared{0};
      Threads threads;
      for (int i = 0; i < 3; ++i) {
        threads.start([&] {
          for (RowId row = 0; row < kFlagged; ++row)
            cleared += index.clear_flag(row, kPrefetchedFlag) ? 1 : 0;
        });
      }
      threads.join();
      CHECK_EQ(cleared.load(), kFlagged);
    }
  };
  DirectIndex direct(500);
  count_clears(direct);
  HashIndex hash(RowId{1} << 40, 500);
  count_clears(hash);
  CompactIndex compact(500, 500);
  count_clears(compact);
}

}  // namespace
