// hash_search.cpp: the search of each instruction set of this processor, on buckets filled by hand.
#include "index/hash_search.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <unordered_map>
#include <vector>

#include "check.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define VECTOR_SEARCH 1
#endif

// As hash_search.cpp defines them.
namespace tieralloc {
namespace baseline {
void search_all(const HashTable& table, std::span<const RowId> rows, Entry* entries);
}
#ifdef VECTOR_SEARCH
namespace avx512 {
void search_all(const HashTable& table, std::span<const RowId> rows, Entry* entries);
}
#endif
}  // namespace tieralloc

namespace {

using namespace tieralloc;

using Search = void (*)(const HashTable&, std::span<const RowId>, Entry*);

std::vector<Search> searches() {
  std::vector<Search> list{search_hash, baseline::search_all};
#ifdef VECTOR_SEARCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("bmi")) {
    list.push_back(avx512::search_all);
  }
#endif
  return list;
}

/// Puts a row where hash_table.hpp says it belongs: into its bucket or the next with a free cell.
void put(HashTable& table, RowId row, Entry entry) {
  for (std::size_t bucket = table.bucket_of(row);; bucket = table.next(bucket)) {
    for (auto& cell : table.bucket(bucket).cells) {
      if (cell != 0) continue;
      cell = table.word_of(row, entry);
      return;
    }
    ++table.bucket(bucket).overflows;
  }
}

TEST(search_finds_the_content_of_buckets) {
  std::mt19937_64 random(1);
  for (int slot_bits : {4, 9, 30}) {
    for (std::size_t buckets : {1, 2, 7, 64}) {
      const auto memory = std::make_unique<HashTable::Bucket[]>(buckets);
      HashTable table{memory.get(), buckets, slot_bits};
      const RowId most = RowId{1} << std::min(48, 62 - slot_bits - HashTable::kFlagBits);
      std::unordered_map<RowId, Entry> map;
      // Fuller than an index gets, up to the last cell: rows lie far from their buckets.
      while (map.size() < buckets * HashTable::kCellsPerBucket) {
        const RowId row = random() % 3 == 0 ? random() % most : random() % 1000;
        const auto slot = static_cast<Slot>(random() % ((std::uint64_t{1} << slot_bits) - 1));
        const Entry flags = random() & kEntryFlags;
        if (map.emplace(row, make_entry(slot, false) | flags).second) put(table, row, map[row]);
        if (map.size() > 60 && random() % 16 != 0) continue;
        std::vector<RowId> rows;
        for (const auto& [known, entry] : map) rows.push_back(known);
        for (int i = 0; i < 40; ++i) rows.push_back(random() % 1000);
        for (const Search search : searches()) {
          std::vector<Entry> entries(rows.size());
          search(table, rows, entries.data());
          for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto it = map.find(rows[i]);
            CHECK_EQ(entries[i], it == map.end() ? kAbsent : it->second);
          }
        }
        CHECK_EQ(search_hash(table, row), map[row]);
      }
    }
  }
}

}  // namespace
