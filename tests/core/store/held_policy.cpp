// held_policy.cpp: a planned policy held between two steps, and copied to another store.
#include "store/held_policy.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "policy/external_policy.hpp"
#include "policy/fake_model.hpp"
#include "store/readers.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kRows = 2000;

/// A store of two fast tiers with a learned policy.
struct LearnedBench : StoreBench {
  explicit LearnedBench(std::uint64_t slots = 150, bool in_background = true)
      : StoreBench(of_rows(slots)),
        wide(add_table("wide", kRows, 40)),
        narrow(add_table("narrow", kRows, 3)) {
    store().use_policy(PlannedPolicy{.make = make_learned(fake_model(usual_hazard), {}),
                                     .in_background = in_background});
  }

  const Table &wide, &narrow;
};

std::vector<std::vector<std::byte>> bytes_of(const PlannerMemory& memory) {
  std::vector<std::vector<std::byte>> bytes;
  for (const auto part : memory.parts) bytes.emplace_back(part.begin(), part.end());
  return bytes;
}

TEST(held_policy_makes_no_step) {
  LearnedBench bench;
  Readers readers(bench, {&bench.wide, &bench.narrow});
  for (std::size_t turn = 0; turn < stressed(20); ++turn) {
    HeldPolicy held(bench.store());
    CHECK_EQ(held.tiers().size(), 2);
    const auto before = bytes_of(held.tiers()[0]);
    readers.wait_for(500);
    CHECK(bytes_of(held.tiers()[0]) == before);
    held.adopt(0);
  }
  const std::uint64_t observed = bench.store().policy_stats().accesses_observed;
  wait_until([&] { return bench.store().policy_stats().accesses_observed > observed; });
  readers.end();
}

TEST(held_policy_copied_to_an_equal_store_is_equal) {
  LearnedBench from(150, false), to(150, false), other(200, false);
  for (std::int64_t i = 0; i < 500; ++i) {
    from.lookup(from.wide, {i * 37 % 100});
    from.lookup(from.narrow, {i * 7 % 90});
    from.store().step_policy();
  }
  const HeldPolicy source(from.store());
  for (LearnedBench* bench : {&to, &other}) {
    HeldPolicy target(bench->store());
    const auto before = bytes_of(target.tiers()[0]);
    target.copy(source);
    CHECK_EQ(bytes_of(target.tiers()[0]) == bytes_of(source.tiers()[0]), bench == &to);
    CHECK_EQ(bytes_of(target.tiers()[1]) == bytes_of(source.tiers()[1]), bench == &to);
    CHECK_EQ(bytes_of(target.tiers()[0]) == before, bench == &other);
  }
}

TEST(held_policy_without_a_learned_one_is_empty) {
  StoreBench bench(of_rows(100));
  bench.add_table("t", kRows, 4);
  CHECK(HeldPolicy(bench.store()).tiers().empty());
  const auto decide = [](std::span<const RowId> rows) {
    return ExternalDecisions{.keep = std::vector<std::uint8_t>(rows.size()), .prefetches = {}};
  };
  bench.store().use_policy(
      PlannedPolicy{.make = make_external({.eviction_speed = 4, .chunk = 8, .decide = decide})});
  CHECK_EQ(HeldPolicy(bench.store()).tiers().at(0).key, "");
}

TEST(held_policy_of_a_closed_store_throws) {
  LearnedBench bench;
  bench.store().close();
  CHECK_THROWS(std::invalid_argument, HeldPolicy(bench.store()), "closed");
}

}  // namespace
