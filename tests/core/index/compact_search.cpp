// compact_search.cpp: the search of each instruction set of this processor, on an index that
// overflows.
#include "index/compact_search.hpp"

#include <random>
#include <unordered_map>
#include <vector>

#include "check.hpp"
#include "index/hash_index.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define VECTOR_SEARCH 1
#endif

// As compact_search.cpp defines them.
namespace tieralloc {
#define DECLARE(isa)                                                    \
  namespace isa {                                                       \
  void search_all(const CompactTable& table, const HashTable& overflow, \
                  std::span<const RowId> rows, Entry* entries);         \
  }
DECLARE(baseline)
#ifdef VECTOR_SEARCH
DECLARE(avx2)
DECLARE(avx512)
#endif
#undef DECLARE
}  // namespace tieralloc

namespace {

using namespace tieralloc;

using Search = void (*)(const CompactTable&, const HashTable&, std::span<const RowId>, Entry*);

std::vector<Search> searches() {
  std::vector<Search> list{search_compact, baseline::search_all};
#ifdef VECTOR_SEARCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")) {
    list.push_back(avx2::search_all);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("bmi")) {
    list.push_back(avx512::search_all);
  }
#endif
  return list;
}

TEST(compact_search_finds_the_content_of_buckets) {
  std::mt19937_64 random(1);
  for (const RowId all : {RowId{50}, RowId{3000}, RowId{1} << 20}) {
    for (const Slot slots : {7u, 1000u, 1'000'000u}) {
      for (std::size_t buckets : {1, 2, 5, 64}) {
        std::vector<CompactTable::Bucket> memory(buckets);
        const CompactTable table(memory.data(), buckets, all, slots);
        if (table.width > CompactTable::kMaxWidth) continue;
        const auto most = static_cast<Slot>(std::min<RowId>(all, buckets * 20));
        HashIndex overflow(all, std::max(slots, most), 3, table);
        std::unordered_map<RowId, Entry> map;
        while (map.size() < most) {
          const RowId row = random() % all;
          const Entry flags = random() & kEntryFlags;
          const Entry entry = make_entry(static_cast<Slot>(random() % slots), false) | flags;
          if (!map.emplace(row, entry).second) continue;
          const CompactTable::Place place = table.place_of(row);
          CompactTable::Bucket& bucket = memory[place.bucket];
          int free = 0;
          while (free < CompactTable::kCellsPerBucket && bucket.cells[free] != 0) ++free;
          if (free < CompactTable::kCellsPerBucket) {
            bucket.cells[free] = table.cell_of(place.row_part, entry);
          } else {
            ++bucket.overflows;
            overflow.put(row, entry);
          }
          if (map.size() % 16 != 0 && map.size() != most) continue;
          std::vector<RowId> rows;
          for (const auto& [known, ignored] : map) rows.push_back(known);
          for (int i = 0; i < 40; ++i) rows.push_back(random() % all);
          for (const Search search : searches()) {
            std::vector<Entry> entries(rows.size());
            search(table, overflow.table(), rows, entries.data());
            for (std::size_t i = 0; i < rows.size(); ++i) {
              const auto it = map.find(rows[i]);
              CHECK_EQ(entries[i], it == map.end() ? kAbsent : it->second);
            }
          }
          CHECK_EQ(search_compact(table, overflow.table(), row), entry);
        }
      }
    }
  }
}

}  // namespace
