// planning.cpp: planned policies in a store decide as in a simulation, and run beside lookups.
#include "store/planning.hpp"

#include <atomic>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "policy/external_policy.hpp"
#include "policy/fake_model.hpp"
#include "sim/row_pages.hpp"
#include "sim/simulator.hpp"
#include "store/readers.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr RowId kRows = 3000;
constexpr std::uint32_t kCapacity = 200;
constexpr std::uint32_t kDim = 9;

std::vector<RowId> draw_stream(std::uint64_t seed, std::size_t length) {
  std::mt19937_64 random(seed);
  std::vector<RowId> stream;
  for (std::size_t i = 0; i < length; ++i) {
    // Popularity that drifts, and a scan now and then.
    const RowId shift = i / 1000 * 50;
    stream.push_back(i % 4000 < 800 ? i % kRows : (skewed_row(random, kRows) + shift) % kRows);
  }
  return stream;
}

MakePolicy external(std::uint32_t chunk, bool prefetches) {
  const auto decide = [prefetches](std::span<const RowId> rows) {
    ExternalDecisions decisions;
    for (const RowId row : rows) {
      decisions.keep.push_back(row % 3 == 0 ? 1 : 0);
      if (!prefetches || row % 5 != 0) continue;
      for (RowId next = row + 1; next < row + 4; ++next) {
        decisions.prefetches.push_back(next % kRows);
      }
    }
    return decisions;
  };
  return make_external({.eviction_speed = 4, .chunk = chunk, .decide = decide});
}

Counts simulate(const MakePolicy& make, std::span<const RowId> stream, Slot slots,
                const RowPages& pages = {}) {
  const EvictionConfig config{.capacity = kCapacity, .slots = slots};
  Simulator simulator(make(config, one_table(kRows)), config, kRows, 0, 0, {}, pages);
  const std::vector<std::uint32_t> lengths(stream.size(), 1);
  simulator.run(stream, lengths);
  return simulator.counts();
}

/// The same by a store, an access a call and a step after each.
Counts serve(StoreBench& bench, const MakePolicy& make, std::span<const RowId> stream) {
  const Table& table = bench.add_table("t", kRows, kDim);
  bench.store().use_policy(PlannedPolicy{.make = make, .in_background = false});
  for (const RowId row : stream) {
    bench.lookup(table, {static_cast<std::int64_t>(row)});
    CHECK_EQ(bench.store().step_policy(), 1);
  }
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.tiers.bypassed, 0);
  CHECK_EQ(bench.store().policy_stats().accesses_observed, stream.size());
  CHECK_EQ(bench.store().policy_stats().steps, stream.size());
  return {.calls = stats.calls,
          .lookups = stats.lookups,
          .hits = stats.hits,
          .on_demand_fetches = stats.on_demand_fetches,
          .evictions = stats.tiers.evictions,
          .prefetches_issued = stats.tiers.prefetches_issued,
          .prefetches_useful = stats.prefetches_useful,
          .prefetches_late = stats.prefetches_late,
          .prefetches_useless = stats.tiers.prefetches_useless,
          .on_demand_device_reads = stats.on_demand_device_reads,
          .prefetch_device_reads = stats.tiers.prefetch_device_reads};
}

Slot slots_of_file() {
  return kCapacity + spare_slots(kCapacity);
}
/// Spare slots also hold new values until they are written back.
Slot slots_of_memory() {
  return kCapacity + 64;
}

Counts serve_file(const MakePolicy& make, std::span<const RowId> stream) {
  StoreBench bench(of_rows(kCapacity), FilePoolOptions{.engine = "pread", .direct = false});
  return serve(bench, make, stream);
}

Counts serve_memory(const MakePolicy& make, std::span<const RowId> stream) {
  StoreOptions options = of_rows(kCapacity);
  options.promotion = PromotionRule::always;
  StoreBench bench(options, MemoryPoolOptions{});
  return serve(bench, make, stream);
}

void check_equal(const Counts& got, const Counts& expected) {
  CHECK_EQ(got.lookups, expected.lookups);
  CHECK_EQ(got.hits, expected.hits);
  CHECK_EQ(got.on_demand_fetches, expected.on_demand_fetches);
  CHECK_EQ(got.evictions, expected.evictions);
  CHECK_EQ(got.prefetches_issued, expected.prefetches_issued);
  CHECK_EQ(got.prefetches_useful, expected.prefetches_useful);
  CHECK_EQ(got.prefetches_late, expected.prefetches_late);
  CHECK_EQ(got.prefetches_useless, expected.prefetches_useless);
  CHECK_EQ(got.calls, expected.calls);
  CHECK_EQ(got.on_demand_device_reads, expected.on_demand_device_reads);
  CHECK_EQ(got.prefetch_device_reads, expected.prefetch_device_reads);
}

/// Serves a stream from a file and from memory, and compares both with a simulation.
Counts check_simulated(const MakePolicy& make, std::span<const RowId> stream) {
  const RowPages pages =
      pages_in_id_order(std::vector<RowId>{0, kRows},
                        PageLayout::paged(stride_of(kDim, DType::float64)).rows_per_page);
  const Counts simulated = simulate(make, stream, slots_of_file(), pages);
  check_equal(serve_file(make, stream), simulated);
  check_equal(serve_memory(make, stream), simulate(make, stream, slots_of_memory()));
  return simulated;
}

TEST(planning_external_serves_as_simulated) {
  const std::vector<RowId> stream = draw_stream(1, 12000);
  for (const std::uint32_t chunk : {1u, 16u}) check_simulated(external(chunk, false), stream);
}

TEST(planning_external_prefetches_as_simulated) {
  const std::vector<RowId> stream = draw_stream(2, 12000);
  for (const std::uint32_t chunk : {1u, 8u}) {
    const Counts simulated = check_simulated(external(chunk, true), stream);
    CHECK(simulated.prefetches_useful > 0 && simulated.prefetches_useless > 0);
    CHECK(simulated.prefetch_device_reads < simulated.prefetches_issued);
  }
}

TEST(planning_learned_serves_as_simulated) {
  for (const bool selects : {false, true}) {
    const std::vector<RowId> stream = draw_stream(3, 20000);
    check_simulated(make_learned(fake_model(usual_hazard), {.selects = selects}), stream);
  }
}

TEST(planning_learned_switches_as_simulated) {
  const auto useless = [](const float* features) { return 1.0f - usual_hazard(features); };
  const MakePolicy make = make_learned(fake_model(useless), {});
  const std::vector<RowId> stream = draw_stream(4, 30000);
  StoreBench bench(of_rows(kCapacity), FilePoolOptions{.engine = "pread", .direct = false});
  check_equal(serve(bench, make, stream), simulate(make, stream, slots_of_file()));
  const LearnedStats stats = bench.store().policy_stats().tiers.at(0);
  CHECK(stats.active != "learned");
  CHECK(stats.switches >= 1);
}

std::string state_of(StoreBench& bench) {
  return bench.store().policy_stats().state;
}

/// Useful and useless in turns, so that simple policies become active as well.
float fickle_hazard(const float* features) {
  static std::atomic<std::uint32_t> rows{0};
  const bool is_useful = rows.fetch_add(1, std::memory_order_relaxed) / 20000 % 2 == 0;
  return is_useful ? usual_hazard(features) : 1.0f - usual_hazard(features);
}

MakePolicy any_policy(std::mt19937_64& random) {
  if (random() % 2 == 0) return make_learned(fake_model(fickle_hazard), {});
  const auto decide = [](std::span<const RowId> rows) {
    ExternalDecisions decisions;
    for (const RowId row : rows) decisions.keep.push_back(row % 2);
    decisions.prefetches = {rows[0] / 2, rows[0] / 3};
    return decisions;
  };
  const auto chunk = static_cast<std::uint32_t>(1 + random() % 40);
  return make_external({.eviction_speed = 4, .chunk = chunk, .decide = decide});
}

TEST(planning_swaps_beside_lookups) {
  StoreBench bench(of_rows(150));
  const Table& wide = bench.add_table("wide", 2000, kDim);
  const Table& narrow = bench.add_table("narrow", 1000, 3);
  Readers readers(bench, {&wide, &narrow});
  std::mt19937_64 random(1);
  for (std::size_t swap = 0; swap < stressed(200); ++swap) {
    if (random() % 3 == 0) {
      const std::vector<std::string> names = eviction_policy_names();
      bench.store().use_policy(names[random() % names.size()]);
      CHECK_EQ(bench.store().policy_stats().state, "");
    } else {
      bench.store().use_policy(PlannedPolicy{.make = any_policy(random)});
      CHECK_EQ(state_of(bench), "running");
    }
    readers.wait_for(random() % 400);
    CHECK(bench.store().stats().resident_rows <= 150 + 2 * spare_slots(150));
  }
  readers.end();
}

TEST(planning_learned_serves_beside_lookups) {
  StoreBench bench(of_rows(1000));
  const Table& table = bench.add_table("t", 6000, kDim);
  bench.store().use_policy(PlannedPolicy{.make = make_learned(fake_model(fickle_hazard), {})});
  Readers readers(bench, {&table});
  readers.wait_for(stressed(60000));
  // Rows are updated and pinned concurrently.
  for (std::int64_t row = 0; row < 100; ++row) {
    bench.update(table, {row, 7 * row}, 1);
    bench.store().pin(table, integers({row}));
    if (row % 2 == 0) bench.store().unpin(table, integers({row}));
  }
  readers.wait_for(stressed(60000));
  readers.end();
  const PolicyStats stats = bench.store().policy_stats();
  CHECK_EQ(stats.state, "running");
  CHECK(stats.accesses_observed > 0 && stats.steps > 0);
  CHECK_EQ(stats.tiers.size(), 1);
  CHECK(bench.store().stats().policy_bytes > 0);
  const auto versions = bench.lookup(table, rows_from(0, 100));
  for (const std::uint64_t version : versions) CHECK_EQ(version, 1);
}

/// Looks up rows until the policy fails, and some more.
std::string failure_of(const MakePolicy& make) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 1000, kDim);
  bench.store().use_policy(PlannedPolicy{.make = make, .simple = "sieve"});
  Readers readers(bench, {&table});
  wait_until([&] { return state_of(bench) == "failed"; });
  readers.wait_for(1000);
  const std::string reason = bench.store().policy_stats().reason;
  const PolicyStats before = bench.store().policy_stats();
  readers.wait_for(1000);
  CHECK_EQ(bench.store().policy_stats().steps, before.steps);
  CHECK_EQ(bench.store().stats().access_ring_bytes, 0);
  // It is no obstacle to the next one.
  bench.store().use_policy(PlannedPolicy{.make = external(8, false)});
  readers.wait_for(1000);
  wait_until([&] { return bench.store().policy_stats().accesses_observed > 0; });
  CHECK_EQ(state_of(bench), "running");
  readers.end();
  return reason;
}

TEST(planning_that_throws_fails_and_lookups_go_on) {
  const auto throws = [](auto) -> ExternalDecisions { throw std::runtime_error("no such model"); };
  CHECK_EQ(failure_of(make_external({.eviction_speed = 4, .chunk = 50, .decide = throws})),
           "no such model");
}

TEST(planning_with_a_wrong_number_of_decisions_fails) {
  const auto too_few = [](auto) { return ExternalDecisions{{1, 0}, {}}; };
  CHECK_EQ(failure_of(make_external({.eviction_speed = 4, .chunk = 50, .decide = too_few}))
               .find("decisions: expected "),
           0);
}

TEST(planning_with_prefetches_of_no_row_fails) {
  const auto beyond = [](std::span<const RowId> rows) {
    return ExternalDecisions{std::vector<std::uint8_t>(rows.size()), {3, 1000}};
  };
  CHECK_EQ(failure_of(make_external({.eviction_speed = 4, .chunk = 50, .decide = beyond})),
           "prefetches: expected rows below 1000, got 1000");
}

TEST(planning_step_passes_failures_on) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 1000, kDim);
  const auto throws = [](auto) -> ExternalDecisions { throw std::runtime_error("no such model"); };
  bench.store().use_policy(
      PlannedPolicy{.make = make_external({.eviction_speed = 4, .chunk = 1, .decide = throws}),
                    .in_background = false});
  CHECK_EQ(bench.store().step_policy(), 0);
  bench.lookup(table, {1});
  CHECK_THROWS(std::runtime_error, bench.store().step_policy(), "no such model");
  bench.lookup(table, {1});
}

TEST(planning_step_of_no_planned_policy_is_refused) {
  StoreBench bench(of_rows(100));
  bench.add_table("t", 1000, kDim);
  const std::string message = "step_policy: expected a planned policy without a background thread";
  CHECK_THROWS(std::invalid_argument, bench.store().step_policy(), message);
  bench.store().use_policy(PlannedPolicy{.make = external(8, false)});
  CHECK_THROWS(std::invalid_argument, bench.store().step_policy(), message);
}

TEST(planning_that_cannot_be_made_leaves_the_former) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 1000, kDim);
  bench.store().use_policy(PlannedPolicy{.make = external(8, false)});
  CHECK_THROWS(std::invalid_argument,
               bench.store().use_policy(PlannedPolicy{.make = external(0, false)}), "chunk");
  CHECK_THROWS(std::invalid_argument,
               bench.store().use_policy(PlannedPolicy{.make = external(8, false), .simple = "mru"}),
               "mru");
  for (int i = 0; i < 100; ++i) bench.lookup(table, {i});
  wait_until([&] { return bench.store().policy_stats().accesses_observed >= 96; });
  CHECK_EQ(state_of(bench), "running");
}

TEST(planning_store_closes_beside_lookups) {
  for (int round = 0; round < 10; ++round) {
    StoreBench bench(of_rows(100));
    const Table& table = bench.add_table("t", 1000, kDim);
    std::mt19937_64 random(static_cast<std::uint64_t>(round));
    bench.store().use_policy(PlannedPolicy{.make = any_policy(random)});
    Threads threads;
    for (int reader = 0; reader < 2; ++reader) {
      threads.start([&] {
        try {
          for (std::int64_t row = 0;; row = (row + 1) % 1000) bench.lookup(table, {row, row / 3});
        } catch (const std::invalid_argument&) {
          CHECK(bench.store().closed());
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    bench.store().close();
    threads.join();
    CHECK_THROWS(std::invalid_argument, bench.store().policy_stats(), "closed");
    CHECK_THROWS(std::invalid_argument,
                 bench.store().use_policy(PlannedPolicy{.make = external(1, false)}), "closed");
  }
}

TEST(planning_store_that_cannot_close_goes_on) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 1000, kDim);
  bench.store().use_policy(PlannedPolicy{.make = external(1, false)});
  bench.update(table, {5}, 1);
  bench.pool().before_write = [] { throw std::runtime_error("the device is gone"); };
  CHECK_THROWS(std::runtime_error, bench.store().close(), "");
  const std::uint64_t before = bench.store().policy_stats().accesses_observed;
  bench.lookup(table, {1, 2, 3});
  wait_until([&] { return bench.store().policy_stats().accesses_observed >= before + 3; });
  bench.pool().before_write = nullptr;
  bench.store().close();
}

TEST(planning_goes_on_with_a_new_table) {
  StoreBench bench(of_rows(150));
  const Table& first = bench.add_table("t", 2000, kDim);
  std::mt19937_64 random(2);
  bench.store().use_policy(PlannedPolicy{.make = any_policy(random), .simple = "sieve"});
  Readers readers(bench, {&first});
  for (int made = 0; made < 10; ++made) {
    readers.wait_for(300);
    bench.store().create_table("more " + std::to_string(made), 50, made % 2 == 0 ? kDim : 3,
                               DType::float64);
    CHECK(bench.store().stats().policy_bytes > 0);
    const std::uint64_t observed = bench.store().policy_stats().accesses_observed;
    wait_until([&] { return bench.store().policy_stats().accesses_observed > observed; });
    bench.store().use_policy(PlannedPolicy{.make = any_policy(random), .simple = "sieve"});
  }
  readers.end();
}

/// Sums rows, all of them hits once they are resident.
void look_up_often(StoreBench& bench, const Table& table, const Rows& rows, std::size_t lookups) {
  std::vector<double> out(table.layout.dim);
  const TableSegment part{&table};
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 1;
  const Rows offsets{0};
  call.offsets = integers(offsets);
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = out.size() * sizeof(double);
  call.out_dtype = DType::float64;
  for (std::size_t at = 0; at < lookups; at += rows.size()) bench.store().embedding_bag(call);
}

/// Makes a policy that saves nothing pause.
void let_pause(StoreBench& bench, const Table& table, const Rows& rows) {
  bench.store().use_policy(PlannedPolicy{.make = external(1000, false), .pauses = true});
  while (state_of(bench) != "paused") {
    look_up_often(bench, table, rows, CostBenefit::kWindow / 4);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void end_pause(StoreBench& bench, const Table& table, const Rows& rows) {
  while (state_of(bench) == "paused") look_up_often(bench, table, rows, CostBenefit::kWindow);
}

TEST(planning_that_saves_nothing_pauses_and_goes_on) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 1000, 1);
  Rows rows = rows_from(0, 50);
  for (int i = 0; i < 8; ++i) rows.insert(rows.end(), rows.begin(), rows.end());
  let_pause(bench, table, rows);
  const PolicyStats paused = bench.store().policy_stats();
  CHECK_EQ(paused.pauses, 1);
  CHECK_EQ(paused.saved_seconds, 0);
  CHECK(paused.spent_seconds > 0);
  CHECK_EQ(bench.store().stats().access_ring_bytes, 0);
  CHECK_EQ(bench.store().stats().resident_rows, 50);
  end_pause(bench, table, rows);
  CHECK_EQ(bench.store().policy_stats().reason, "");
  CHECK_EQ(bench.store().stats().resident_rows, 50);
  look_up_often(bench, table, rows, 1000);
  wait_until(
      [&] { return bench.store().policy_stats().accesses_observed > paused.accesses_observed; });
}

/// With a policy that is made for more slots.
TEST(planning_that_paused_before_a_new_table_goes_on) {
  StoreBench bench(of_rows(500));
  const Table& small = bench.add_table("small", 60, 1);
  Rows rows = rows_from(0, 60);
  for (int i = 0; i < 8; ++i) rows.insert(rows.end(), rows.begin(), rows.end());
  let_pause(bench, small, rows);
  bench.add_table("large", 3000, 1);
  const Table& large = *bench.store().tables()[1];
  CHECK_EQ(state_of(bench), "paused");
  end_pause(bench, small, rows);
  for (std::int64_t row = 0; row < 3000; row += 30) bench.lookup(large, rows_from(row, 30));
  CHECK(bench.store().stats().policy_bytes > 0);
  CHECK_EQ(bench.store().stats().resident_rows, 500);
}

}  // namespace
