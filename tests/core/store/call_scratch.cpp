// call_scratch.cpp: the set of misses against std::map, and the release of buffers.
#include "store/call_scratch.hpp"

#include <map>
#include <random>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(miss_set_keeps_each_row_once) {
  std::mt19937_64 random(1);
  // Addresses of tiers that are never looked into.
  auto* const tiers = reinterpret_cast<FastTier*>(std::uintptr_t{4096});
  MissSet misses;
  for (int round = 0; round < 20; ++round) {
    std::map<std::pair<std::uintptr_t, RowId>, std::uint32_t> map;
    const std::uint64_t range = round % 2 == 0 ? 50 : 5000;
    for (int i = 0; i < 3000; ++i) {
      auto* tier = reinterpret_cast<FastTier*>(reinterpret_cast<std::uintptr_t>(tiers) +
                                               4096 * (random() % 2));
      const RowId row = random() % range;
      const auto key = std::make_pair(reinterpret_cast<std::uintptr_t>(tier), row);
      const auto [it, fresh] = map.emplace(key, static_cast<std::uint32_t>(map.size()));
      CHECK_EQ(misses.add(tier, {row}, nullptr), it->second);
      CHECK_EQ(misses.rows.size(), map.size());
      CHECK(misses.rows[it->second].row.value == row && misses.rows[it->second].tier == tier);
    }
    misses.clear();
    CHECK(misses.rows.empty());
  }
}

TEST(scratch_releases_buffers_of_a_large_call) {
  CallScratch scratch;
  for (std::size_t size : {std::size_t{5000000}, std::size_t{3000}}) {
    scratch.rows.resize(size);
    scratch.pointers.resize(size);
    scratch.deferred_rows.resize(size);
    for (RowId row = 0; row < size / 10; ++row) scratch.misses.add(nullptr, {row}, nullptr);
    scratch.misses.clear();
    scratch.trim();
    CHECK(scratch.misses.bytes() < 2 << 20);
    for (std::size_t kept :
         {scratch.rows.capacity(), scratch.pointers.capacity(), scratch.deferred_rows.capacity()}) {
      CHECK_EQ(kept, size > 3000 ? 0 : size);  // of a usual call they are kept
    }
    CHECK_EQ(scratch.misses.add(nullptr, {7}, nullptr), 0);
    scratch.misses.clear();
  }
}

}  // namespace
