// value_ranking.cpp: victims of ValueRanking, with functions as networks.
#include "policy/value_ranking.hpp"

#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "faults.hpp"
#include "policy/fake_model.hpp"

namespace {

using namespace tieralloc;

/// A row's group is its number modulo 8; a group has half the hazard of the next one.
float hazard_by_group(const float* features) {
  return std::ldexp(0.5f, static_cast<int>(features[0]) % 8 - 8);
}

class Observer final : public SaturationObserver {
 public:
  void needs_touches(Slot slot) override { slots.push_back(slot); }
  std::vector<Slot> slots;
};

struct Bench {
  static constexpr std::uint32_t kRows = 400;

  std::shared_ptr<PolicyModel> trained;
  Observer observer;
  FakeTier tier;
  RowModel model;
  ValueRanking ranking;

  explicit Bench(std::uint32_t capacity, Slot spares = 0, Hazard hazard = hazard_by_group,
                 bool prefetches = false)
      : trained(fake_model(std::move(hazard))),
        tier(capacity + spares),
        model(*trained, table_per_row(kRows), capacity),
        ranking({.capacity = capacity, .slots = capacity + spares, .observer = &observer}, model,
                true, prefetches) {}

  void insert(RowId row) { ranking.insert(tier.add(row), row); }
  void insert_prefetched(RowId row) { ranking.insert_prefetched(tier.add(row), row); }
  void observe(RowId row) {
    model.begin_sample();
    model.observe(row);
  }
  void touch(RowId row) {
    const Slot slot = tier.find_slot(row);
    ranking.touch({&slot, 1});
  }
  void step() {
    while (ranking.collect(tier)) apply();
    apply();
  }
  void apply() {
    ranking.evaluate(tier);
    ranking.apply(tier);
  }
  RowId evict() {
    const Slot slot = ranking.evict();
    return slot == kNoSlot ? kNoRow : tier.take_out(slot);
  }
  /// Inserts, observes and evaluates rows 0 … count-1.
  void fill(RowId count) {
    for (RowId row = 0; row < count; ++row) {
      insert(row);
      observe(row);
    }
    step();
  }
};

TEST(value_ranking_evicts_the_lowest_value) {
  Bench bench(96);
  bench.fill(96);
  CHECK_EQ(bench.ranking.evaluations(), 96);
  std::vector<RowId> evicted;
  for (RowId row = bench.evict(); row != kNoRow; row = bench.evict()) evicted.push_back(row);
  CHECK_EQ(evicted.size(), 96);
  for (std::size_t i = 0; i < evicted.size(); ++i) CHECK_EQ(evicted[i] % 8, i / 12);
}

TEST(value_ranking_of_equal_values_evicts_the_oldest) {
  Bench bench(48, 0, constant_hazard);
  bench.fill(48);
  for (RowId row = 0; row < 48; ++row) CHECK_EQ(bench.evict(), row);
}

TEST(value_ranking_keeps_hit_rows_until_evaluated) {
  Bench bench(48);
  bench.fill(48);
  for (RowId row : {0, 8, 16}) bench.touch(row);  // of the lowest group
  for (int i = 0; i < 45; ++i) CHECK(bench.evict() % 8 != 0 || bench.ranking.num_rows() > 42);
  CHECK_EQ(bench.ranking.num_rows(), 3);
  for (RowId row : {0, 8, 16}) CHECK(bench.tier.is_resident(row));
}

TEST(value_ranking_without_curves_evaluates_all_rows_again) {
  Bench bench(48, 2, hazard_by_group, true);
  bench.fill(46);
  bench.insert_prefetched(50);
  bench.insert(51);
  bench.ranking.forget_curves();
  CHECK_EQ(bench.evict(), 51);  // all rows are unevaluated, row 51 for the longest time
  bench.step();
  CHECK_EQ(bench.ranking.evaluations(), 46 + 46);
  CHECK_EQ(bench.ranking.num_rows(), 47);
}

TEST(value_ranking_evaluates_hit_rows_again) {
  Bench bench(48);
  bench.fill(48);
  for (RowId row = 0; row < 48; ++row) bench.touch(row);
  CHECK_EQ(bench.evict(), 0);  // all rows are unevaluated, row 0 for the longest time
  bench.step();
  CHECK_EQ(bench.ranking.evaluations(), 48 + 47);
  for (std::size_t i = 0; i < 47; ++i) CHECK_EQ(bench.evict() % 8, (i + 1) / 6);
}

TEST(value_ranking_evicts_unevaluated_rows_in_order) {
  Bench bench(10);
  for (RowId row = 0; row < 10; ++row) bench.insert(row);
  for (RowId row = 0; row < 10; ++row) CHECK_EQ(bench.evict(), row);
  CHECK_EQ(bench.evict(), kNoRow);
}

TEST(value_ranking_evicts_rows_during_their_evaluation) {
  Bench bench(48);
  for (RowId row = 0; row < 48; ++row) bench.insert(row);
  CHECK(!bench.ranking.collect(bench.tier));
  std::set<RowId> evicted;
  for (int i = 0; i < 20; ++i) evicted.insert(bench.evict());
  CHECK_EQ(evicted.size(), 20);
  // The results of the step do not apply to the rows that reuse the slots.
  for (RowId row = 100; row < 110; ++row) bench.insert(row);
  bench.apply();
  CHECK_EQ(bench.ranking.num_rows(), 38);
  for (int i = 0; i < 28; ++i) CHECK(bench.evict() < 48);
  for (RowId row = 100; row < 110; ++row) CHECK_EQ(bench.evict(), row);
}

TEST(value_ranking_of_few_rows_evaluates_them) {
  for (std::uint32_t capacity : {1u, 2u, 16u, 23u}) {
    Bench bench(capacity);
    bench.fill(capacity);
    CHECK_EQ(bench.ranking.evaluations(), capacity);
    for (RowId row = capacity; row < 60; ++row) {
      bench.evict();
      bench.insert(row);
      bench.observe(row);
      bench.step();
    }
    CHECK(bench.ranking.evaluations() > 20);
  }
}

TEST(value_ranking_keeps_its_order_over_moves) {
  Bench bench(48, 8);
  bench.fill(48);
  bench.touch(1);
  for (RowId row = 0; row < 48; ++row) {
    const Slot from = bench.tier.find_slot(row);
    bench.ranking.move(from, bench.tier.move(from));
    CHECK(!bench.ranking.holds(from));
  }
  CHECK_EQ(bench.ranking.num_rows(), 48);
  std::vector<RowId> evicted;
  for (RowId row = bench.evict(); row != kNoRow; row = bench.evict()) evicted.push_back(row);
  CHECK_EQ(evicted.size(), 48);
  CHECK_EQ(evicted.back(), 1);  // its reference bit has moved with it
  evicted.pop_back();
  for (std::size_t i = 0; i < evicted.size(); ++i) {
    CHECK_EQ(evicted[i] % 8, i < 11 ? i / 6 : (i + 1) / 6);
  }
}

TEST(value_ranking_reports_saturated_slots) {
  Bench bench(48);
  bench.fill(48);
  bench.observer.slots.clear();
  const Slot slot = bench.tier.find_slot(5);
  std::uint32_t place = 9;
  CHECK_EQ(bench.ranking.find_saturated({&slot, 1}, &place), 0);
  bench.touch(5);
  CHECK_EQ(bench.ranking.find_saturated({&slot, 1}, &place), 1);
  CHECK_EQ(place, 0);
  CHECK(bench.ranking.clear_reference_bit(slot));
  CHECK(!bench.ranking.clear_reference_bit(slot));
  CHECK(bench.observer.slots == std::vector<Slot>{slot});
  CHECK_EQ(bench.ranking.find_saturated({&slot, 1}, &place), 0);
}

TEST(value_ranking_reevaluates_as_values_rise) {
  // Values fall with a row's age; those of hit rows rise again.
  Bench bench(64, 0, usual_hazard);
  bench.fill(64);
  const std::uint64_t before = bench.ranking.evaluations();
  for (int round = 0; round < 40; ++round) {
    for (RowId row = 0; row < 24; ++row) {
      bench.observe(row);
      bench.touch(row);
    }
    bench.evict();
    bench.insert(100 + round);
    bench.observe(100 + round);
    bench.step();
  }
  CHECK(bench.ranking.evaluations() > before + 100);
  for (RowId row = 0; row < 24; ++row) CHECK(bench.tier.is_resident(row));
}

TEST(value_ranking_never_evicts_a_slot_it_does_not_hold) {
  for (const std::uint32_t capacity : {1u, 7u, 30u, 200u}) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      Bench bench(capacity, 8, usual_hazard, seed % 2 == 1);
      std::mt19937_64 random(seed);
      bool is_collected = false;
      for (int i = 0; i < 20000; ++i) {
        const RowId row = skewed_row(random, Bench::kRows);
        const Slot slot = bench.tier.find_slot(row);
        switch (random() % 12) {
          case 0:
            CHECK_EQ(bench.evict() == kNoRow, bench.ranking.num_rows() == 0 && slot == kNoSlot &&
                                                  bench.tier.slots().empty());
            break;
          case 1:
            if (slot == kNoSlot) break;
            bench.ranking.remove(slot);
            bench.tier.take_out(slot);
            break;
          case 2:
            if (slot != kNoSlot && bench.tier.free_slots() > 0) {
              bench.ranking.move(slot, bench.tier.move(slot));
            }
            break;
          case 3:
            bench.ranking.collect(bench.tier);
            is_collected = true;
            break;
          case 4:
            if (std::exchange(is_collected, false)) bench.apply();
            break;
          default:
            bench.observe(row);
            if (slot != kNoSlot) {
              bench.touch(row);
              break;
            }
            if (bench.tier.slots().size() == capacity) bench.evict();
            random() % 4 == 0 ? bench.insert_prefetched(row) : bench.insert(row);
        }
        CHECK_EQ(bench.ranking.num_rows(), bench.tier.slots().size());
      }
      for (Slot slot = 0; slot < capacity + 8; ++slot) {
        CHECK_EQ(bench.ranking.holds(slot), bench.tier.row_in(slot) != kNoRow);
      }
      std::vector<Slot> released_slots;
      released_slots.reserve(capacity);
      const std::size_t before = faults::freed_bytes();
      bench.ranking.release_slots([&](Slot slot) { released_slots.push_back(slot); });
      const EvictionConfig config{.capacity = capacity, .slots = capacity + 8};
      CHECK(faults::freed_bytes() >= before + ValueRanking::slot_bytes(config));
      const std::set<Slot> released(released_slots.begin(), released_slots.end());
      CHECK_EQ(released_slots.size(), bench.tier.slots().size());
      CHECK_EQ(released.size(), released_slots.size());
      for (Slot slot : released) CHECK(bench.tier.row_in(slot) != kNoRow);
      CHECK_EQ(bench.ranking.num_rows(), 0);
    }
  }
}

TEST(value_ranking_takes_memory_only_at_construction) {
  Bench bench(1000, 100, usual_hazard);
  const EvictionConfig config{.capacity = 1000, .slots = 1100};
  for (const bool prefetches : {false, true}) {
    const std::size_t before = faults::allocated_bytes();
    const ValueRanking other(config, bench.model, true, prefetches);
    const std::size_t taken = faults::allocated_bytes() - before;
    const std::size_t stated = ValueRanking::bytes(config, prefetches) - sizeof(ValueRanking);
    CHECK(taken <= stated && taken + 500 > stated);
  }
}

/// A tier of 256 rows with 96 rows inserted on demand, and 20 prefetched ones from row 200 on. The
/// target of the probationary segment is 16 rows.
struct PrefetchBench : Bench {
  PrefetchBench() : Bench(256, 8, hazard_by_group, true) {
    fill(96);
    for (RowId row = 200; row < 220; ++row) insert_prefetched(row);
  }
  void check_outcomes(std::uint32_t used, double displaced) {
    const PrefetchOutcomes outcomes = ranking.take_outcomes();
    CHECK_EQ(outcomes.used, used);
    CHECK(std::abs(outcomes.displaced - displaced) < 1e-4);
  }
};

TEST(value_ranking_evicts_prefetched_rows_over_the_target) {
  PrefetchBench bench;
  for (RowId row = 200; row < 204; ++row) CHECK_EQ(bench.evict(), row);
  for (std::size_t i = 0; i < 24; ++i) CHECK_EQ(bench.evict() % 8, i / 12);
  bench.insert_prefetched(300);
  CHECK_EQ(bench.evict(), 204);
  bench.check_outcomes(0, 0);
  std::vector<RowId> evicted;
  for (RowId row = bench.evict(); row != kNoRow; row = bench.evict()) evicted.push_back(row);
  CHECK_EQ(evicted.size(), 96 - 24 + 16);  // prefetched rows are evicted last
}

TEST(value_ranking_drained_evicts_prefetched_rows_first) {
  PrefetchBench bench;
  bench.ranking.drain_probation();
  for (RowId row = 200; row < 220; ++row) CHECK_EQ(bench.evict(), row);
  CHECK(bench.evict() < 96);
}

TEST(value_ranking_keeps_used_prefetched_rows) {
  PrefetchBench bench;
  for (RowId row : {200, 202}) {
    bench.observe(row);
    bench.touch(row);
  }
  CHECK_EQ(bench.evict(), 201);
  CHECK(bench.evict() < 96);  // uses of old rows have raised the target to 18
  bench.check_outcomes(2, 0);
  bench.check_outcomes(0, 0);
  // Used rows are ordinary rows: prefetched rows are evicted before them.
  for (RowId row = 300; row < 350; ++row) bench.insert_prefetched(row);
  for (int i = 0; i < 49; ++i) CHECK(bench.evict() >= 203);
  CHECK(bench.tier.is_resident(200) && bench.tier.is_resident(202));
  CHECK_EQ(bench.ranking.num_rows(), 95 + 2 + 18);
}

TEST(value_ranking_hand_finds_used_prefetched_rows) {
  PrefetchBench bench;
  for (RowId row = 210; row < 215; ++row) bench.touch(row);
  for (int i = 0; i < 20; ++i) bench.evict();  // 16 of them cause visits of the hand
  bench.step();
  bench.check_outcomes(5, 0);
}

TEST(value_ranking_hits_of_low_rows_estimate_displaced_hits) {
  PrefetchBench bench;
  for (int i = 0; i < 4; ++i) bench.evict();  // 16 prefetched rows are left
  bench.touch(0);  // one of the 12 rows of the lowest value; 8 rows count
  bench.touch(7);  // one of the highest
  bench.evict();
  const double hits_per_slot = 1.0 / 12;
  bench.check_outcomes(0, hits_per_slot * (96 - 4) * std::log(112.0 / 96));
  bench.step();
  bench.check_outcomes(0, 0);
}

TEST(value_ranking_without_prefetched_rows_has_no_displaced_hits) {
  Bench bench(256, 8, hazard_by_group, true);
  bench.fill(96);
  for (RowId row = 0; row < 24; ++row) bench.touch(row);
  for (int i = 0; i < 40; ++i) bench.evict();
  CHECK_EQ(bench.ranking.take_outcomes().displaced, 0);
}

TEST(value_ranking_probation_rows_keep_their_order_over_moves) {
  PrefetchBench bench;
  for (RowId row = 200; row < 220; ++row) {
    const Slot from = bench.tier.find_slot(row);
    bench.ranking.move(from, bench.tier.move(from));
  }
  for (RowId row = 200; row < 204; ++row) CHECK_EQ(bench.evict(), row);
  CHECK(bench.evict() < 96);
}

TEST(row_model_with_wrong_network_sizes_throws) {
  const auto model = fake_model(constant_hazard);
  model->caching = [] { return std::make_unique<FakeNetwork>(constant_hazard, 3); };
  CHECK_THROWS(std::invalid_argument, RowModel(*model, table_per_row(10), 10),
               "caching model: expected 20 features and 9 outputs, got 20 and 3");
  model->caching = [] { return std::make_unique<FakeNetwork>(constant_hazard, 9, 19); };
  CHECK_THROWS(std::invalid_argument, RowModel(*model, table_per_row(10), 10), "got 19 and 9");
}

}  // namespace
