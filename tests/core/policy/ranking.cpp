// ranking.cpp: Ranking against lists with linear search.
#include "policy/ranking.hpp"

#include <algorithm>
#include <list>
#include <map>
#include <random>

#include "check.hpp"

namespace {

using namespace tieralloc;

TEST(ranking_random_moves_match_naive) {
  constexpr Slot kSlots = 30;
  for (std::uint32_t buckets : {3u, 128u}) {
    std::mt19937_64 random(buckets);
    Ranking ranking(kSlots);
    std::map<Ranking::Place, std::list<Slot>> naive;
    std::vector<Ranking::Place> place_of(kSlots, Ranking::kNotHeld);
    for (int step = 0; step < 20000; ++step) {
      const auto slot = static_cast<Slot>(random() % kSlots);
      const std::uint64_t draw = random() % (buckets + 5);
      const auto to =
          static_cast<Ranking::Place>(draw < buckets ? draw : Ranking::kBuckets + draw - buckets);
      ranking.move(slot, to);
      if (place_of[slot] != to) {
        naive[place_of[slot]].remove(slot);
        naive[to].push_back(slot);
        place_of[slot] = to;
      }
      CHECK_EQ(ranking.place_of(slot), to);
      CHECK_EQ(ranking.holds(slot), to != Ranking::kNotHeld);
      const auto lowest = std::find_if(naive.begin(), naive.end(),
                                       [](const auto& place) { return !place.second.empty(); });
      const bool is_ranked = lowest != naive.end() && lowest->first < Ranking::kBuckets;
      CHECK_EQ(ranking.lowest(), is_ranked ? lowest->second.front() : kNoSlot);
      const auto count = static_cast<std::uint32_t>(random() % (kSlots + 2));
      std::uint32_t below = 0, among = 0;  // of the bucket's slots, if these are taken in turn
      for (Ranking::Place bucket = 0; bucket < buckets; ++bucket) {
        const auto size = static_cast<std::uint32_t>(naive[bucket].size());
        among = std::min(count - std::min(count, below), size);
        below += size;
        if (size == 0) continue;
        CHECK_EQ(ranking.share_among_lowest(bucket, count),
                 static_cast<float>(among) / static_cast<float>(size));
      }
      CHECK_EQ(ranking.is_prefetched(slot),
               to == Ranking::kNewPrefetch || to == Ranking::kOldPrefetch);
      for (const Ranking::Place place :
           {Ranking::kUnevaluated, Ranking::kNewPrefetch, Ranking::kOldPrefetch}) {
        const std::list<Slot>& slots = naive[place];
        CHECK_EQ(ranking.size(place), slots.size());
        CHECK_EQ(ranking.first(place), slots.empty() ? kNoSlot : slots.front());
      }
    }
  }
}

TEST(ranking_without_slots_is_empty) {
  const Ranking ranking(5);
  CHECK_EQ(ranking.lowest(), kNoSlot);
  CHECK_EQ(ranking.first(Ranking::kUnevaluated), kNoSlot);
  for (Slot slot = 0; slot < 5; ++slot) CHECK(!ranking.holds(slot));
}

}  // namespace
