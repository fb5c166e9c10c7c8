// scored.cpp: ScoredPolicy against what it is told to do.
#include "eviction/scored.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "check.hpp"
#include "split_mix.hpp"

namespace {

using namespace tieralloc;

/// Scores rows by their numbers, and remembers what it was asked.
class ByNumber final : public RowScorer {
 public:
  void score(std::span<const RowId> rows, float* scores) override {
    asked.assign(rows.begin(), rows.end());
    std::transform(rows.begin(), rows.end(), scores,
                   [](RowId row) { return static_cast<float>(row); });
    ++calls;
  }
  std::vector<RowId> asked;
  int calls = 0;
};

ScoredPolicy with_rows(std::uint32_t slots, std::uint32_t candidates, std::uint32_t victims) {
  ScoredPolicy policy({.capacity = slots, .slots = slots, .seed = 1}, candidates, victims);
  for (Slot slot = 0; slot < slots; ++slot) policy.insert(slot, 100 + slot);
  return policy;
}

TEST(the_lowest_scores_of_those_drawn_leave_in_order_before_anybody_is_asked_again) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(200, 32, 4);
  policy.set_scorer(&scorer);
  for (int round = 1; round <= 20; ++round) {
    std::vector<Slot> left;
    for (int i = 0; i < 4; ++i) left.push_back(policy.evict());
    CHECK_EQ(scorer.calls, round);
    std::vector<RowId> lowest = scorer.asked;
    CHECK(lowest.size() <= 32 && lowest.size() > 20);
    std::sort(lowest.begin(), lowest.end());
    for (int i = 0; i < 4; ++i) CHECK_EQ(100 + left[i], lowest[i]);
  }
}

TEST(rows_are_drawn_evenly) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(50, 8, 1);
  policy.set_scorer(&scorer);
  std::vector<int> drawn(50);
  for (int round = 0; round < 5000; ++round) {
    const Slot left = policy.evict();
    for (const RowId row : scorer.asked) ++drawn[row - 100];
    policy.insert(left, 100 + left);
  }
  const auto [least, most] = std::minmax_element(drawn.begin(), drawn.end());
  CHECK(*least > 600 && *most < 900);  // about 745 each, with a deviation of 25
}

TEST(an_advised_row_that_is_accessed_dropped_or_replaced_is_advised_no_more) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(4, 64, 4);  // all are drawn and advised
  policy.set_scorer(&scorer);
  CHECK_EQ(policy.evict(), 0);
  const Slot hit = 1;
  policy.touch({&hit, 1});
  CHECK_EQ(policy.evict(), 2);
  policy.remove(3);
  policy.insert(3, 7);
  CHECK_EQ(scorer.calls, 1);
  CHECK_EQ(policy.evict(), 3);  // asked again: now the lowest
  CHECK_EQ(scorer.calls, 2);
  policy.move(1, 0);
  CHECK_EQ(policy.evict(), 0);
  CHECK_EQ(policy.evict(), kNoSlot);
}

TEST(with_nobody_to_score_the_least_recently_used_leaves) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(4, 4, 2);
  const std::vector<Slot> hits{0, 2, 3};
  policy.touch(hits);
  CHECK_EQ(policy.evict(), 1);
  CHECK_EQ(policy.evict(), 0);
  policy.set_scorer(&scorer);
  CHECK_EQ(policy.evict(), 2);
  policy.set_scorer(nullptr);
  policy.touch(hits);  // of which two are not held
  CHECK_EQ(policy.evict(), 3);
  CHECK_EQ(scorer.calls, 1);
}

TEST(a_stand_in_decides_as_it_would_alone_and_is_forgotten_when_it_goes) {
  constexpr std::uint32_t kSlots = 60;
  ByNumber scorer;
  for (const std::string& name : eviction_policy_names()) {
    ScoredPolicy policy = with_rows(kSlots, 8, 2);
    policy.set_scorer(&scorer);
    const EvictionConfig config{.capacity = kSlots, .slots = kSlots};
    const auto alone = make_eviction_policy(name, config);
    policy.set_stand_in(make_eviction_policy(name, config));
    for (Slot slot = 0; slot < kSlots; ++slot) alone->insert(slot, 100 + slot);
    SplitMix64 random(7);
    std::vector<Slot> empty;
    for (int step = 0; step < 2000; ++step) {
      const std::uint32_t dice = random.below(10);
      if (dice < 3 && !empty.empty()) {
        const RowId row = 1000 + random.below(200);
        policy.insert(empty.back(), row);
        alone->insert(empty.back(), row);
        empty.pop_back();
      } else if (dice < 5 && empty.size() < kSlots) {
        const Slot left = policy.evict();
        CHECK_EQ(left, alone->evict());
        empty.push_back(left);
      } else if (dice < 6 && empty.size() > 1 && empty.size() < kSlots) {
        Slot from = random.below(kSlots);
        while (std::find(empty.begin(), empty.end(), from) != empty.end()) {
          from = (from + 1) % kSlots;
        }
        policy.move(from, empty.front());
        alone->move(from, empty.front());
        empty.front() = from;
      } else {
        const Slot hit = random.below(kSlots);
        policy.touch({&hit, 1});
        if (std::find(empty.begin(), empty.end(), hit) == empty.end()) alone->touch({&hit, 1});
      }
    }
    const int calls = scorer.calls;
    policy.set_stand_in(nullptr);
    std::uint32_t left = 0;
    while (policy.evict() != kNoSlot) ++left;
    CHECK_EQ(left, kSlots - empty.size());
    CHECK(left == 0 || scorer.calls > calls);
  }
}

TEST(what_was_fetched_ahead_leaves_before_a_stand_in_is_asked) {
  ScoredPolicy policy({.capacity = 100, .slots = 100}, 8, 2);
  for (Slot slot = 0; slot < 90; ++slot) policy.insert(slot, slot);
  for (Slot slot = 90; slot < 100; ++slot) policy.insert_prefetched(slot, slot);
  policy.set_stand_in(make_eviction_policy("lru", {.capacity = 100, .slots = 100}));
  const Slot used = 92;
  policy.touch({&used, 1});  // one that stays is the stand-in's from then on
  std::vector<Slot> left;
  for (int i = 0; i < 100; ++i) left.push_back(policy.evict());
  CHECK_EQ(left[0], 90);
  CHECK_EQ(left[1], 91);
  CHECK(std::find(left.begin(), left.end(), used) > left.begin() + 80);
  std::sort(left.begin(), left.end());
  for (Slot slot = 0; slot < 100; ++slot) CHECK_EQ(left[slot], slot);
}

/// Rows that were asked for, the least recently used first, beside those that were fetched ahead.
class Plain {
 public:
  Plain(std::uint32_t capacity, bool scored) : scored_(scored), aside_(capacity) {}

  bool holds(Slot slot) const { return row_in_.contains(slot); }
  bool is_resident(RowId row) const {
    return std::any_of(row_in_.begin(), row_in_.end(),
                       [row](const auto& held) { return held.second == row; });
  }

  void insert(Slot slot, RowId row) {
    row_in_[slot] = row;
    aside_.note_miss(row);
    used_.push_back(slot);
  }
  void insert_prefetched(Slot slot, RowId row) {
    row_in_[slot] = row;
    const RowId too_many = aside_.add(slot);
    if (too_many != kNoRow) used_.push_back(static_cast<Slot>(too_many));
  }
  void touch(Slot slot) {
    if (!holds(slot)) return;
    if (!aside_.use(slot, row_in_[slot])) std::erase(used_, slot);
    used_.push_back(slot);
  }
  void give_up_prefetched() { aside_.shrink(); }
  Slot evict() {
    if (row_in_.empty()) return kNoSlot;
    Slot victim;
    if (aside_.is_over() || used_.empty()) {
      victim = static_cast<Slot>(aside_.pop_oldest());
    } else {
      victim = scored_ ? lowest() : used_.front();
      std::erase(used_, victim);
      aside_.note_eviction(row_in_[victim]);
    }
    row_in_.erase(victim);
    return victim;
  }
  void remove(Slot slot) {
    row_in_.erase(slot);
    if (!aside_.drop(slot)) std::erase(used_, slot);
  }
  void move(Slot from, Slot to) {
    row_in_[to] = row_in_[from];
    row_in_.erase(from);
    if (aside_.drop(from)) {
      aside_.add(to);
    } else {
      *std::find(used_.begin(), used_.end(), from) = to;
    }
  }

 private:
  Slot lowest() {
    return *std::min_element(used_.begin(), used_.end(),
                             [&](Slot a, Slot b) { return row_in_[a] < row_in_[b]; });
  }

  bool scored_;
  SetAside aside_;
  std::vector<Slot> used_;
  std::map<Slot, RowId> row_in_;
};

void agree_with_plain(std::uint32_t capacity, bool scored, std::uint64_t seed) {
  ByNumber scorer;
  const std::uint32_t slots = capacity + 3;
  // All are drawn, next to surely, and whoever is advised leaves at once.
  ScoredPolicy policy({.capacity = capacity, .slots = slots, .seed = seed}, 100 * capacity, 1);
  if (scored) policy.set_scorer(&scorer);
  Plain plain(capacity, scored);
  SplitMix64 random(seed);
  std::uint32_t held = 0;
  for (int step = 0; step < 20000; ++step) {
    if (random.below(1000) == 0) {
      policy.give_up_prefetched();
      plain.give_up_prefetched();
    }
    const Slot slot = random.below(slots);
    const auto what = random.below(16);
    if (what < 7) {
      policy.touch({&slot, 1});
      plain.touch(slot);
    } else if (what == 7 && plain.holds(slot)) {
      policy.remove(slot);
      plain.remove(slot);
      --held;
    } else if (what == 8 && plain.holds(slot)) {
      const Slot to = random.below(slots);
      if (plain.holds(to)) continue;
      policy.move(slot, to);
      plain.move(slot, to);
    } else if (what > 8) {
      const RowId row = random.below(3 * capacity);
      if (plain.is_resident(row)) continue;
      if (held == capacity || what == 9) {
        const Slot victim = policy.evict();
        CHECK_EQ(victim, plain.evict());
        if (victim != kNoSlot) --held;
      }
      if (plain.holds(slot)) continue;
      ++held;
      if (what < 13) {
        policy.insert(slot, row);
        plain.insert(slot, row);
      } else {
        policy.insert_prefetched(slot, row);
        plain.insert_prefetched(slot, row);
      }
    }
  }
  for (; held > 0; --held) CHECK_EQ(policy.evict(), plain.evict());
  CHECK_EQ(policy.evict(), kNoSlot);
}

TEST(rows_fetched_ahead_and_those_asked_for_leave_as_those_of_a_plain_model) {
  for (const std::uint32_t capacity : {1u, 2u, 5u, 40u}) {
    for (const bool scored : {false, true}) agree_with_plain(capacity, scored, capacity + 1);
  }
}

TEST(rows_fetched_ahead_are_never_drawn_until_they_are_asked_for) {
  ByNumber scorer;
  ScoredPolicy policy = with_rows(8, 64, 1);
  policy.set_scorer(&scorer);
  policy.remove(7);
  policy.insert_prefetched(7, 1);  // the lowest
  CHECK_EQ(policy.evict(), 0);
  CHECK(std::find(scorer.asked.begin(), scorer.asked.end(), 1) == scorer.asked.end());
  const Slot used = 7;
  policy.touch({&used, 1});
  CHECK_EQ(policy.evict(), 7);
}

TEST(policies_of_no_victims_or_too_many_are_refused) {
  CHECK_THROWS(std::invalid_argument, with_rows(4, 4, 0), "victims are 0");
  CHECK_THROWS(std::invalid_argument, with_rows(4, 4, 5), "at most the 4 candidates");
}

}  // namespace
