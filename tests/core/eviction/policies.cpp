// policies.cpp: eviction policies against naive implementations, and properties of all policies.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "check.hpp"
#include "eviction/naive.hpp"
#include "eviction/policy.hpp"
#include "eviction/registry.hpp"
#include "faults.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

/// A policy with its slots and rows, beside the naive implementation.
class Driver {
 public:
  Driver(const std::string& name, std::uint32_t capacity, std::uint32_t spares)
      : capacity_(capacity),
        policy_(make_eviction_policy(name, {.capacity = capacity, .slots = capacity + spares})),
        naive_(make_naive_policy(name, capacity)) {
    for (Slot slot = 0; slot < capacity + spares; ++slot) free_.push_back(slot);
  }

  std::size_t held() const { return slot_of_.size(); }

  void access(RowId row) {
    const auto it = slot_of_.find(row);
    if (it != slot_of_.end()) {
      const Slot slot = it->second;
      policy_->touch({&slot, 1});
      naive_->touch(row);
      return;
    }
    while (slot_of_.size() >= capacity_) evict();
    const Slot slot = free_.back();
    free_.pop_back();
    slot_of_[row] = slot;
    row_in_[slot] = row;
    policy_->insert(slot, row);
    naive_->insert(row);
  }

  /// Notifies of hits of several rows, in order, and of a slot that the policy does not hold.
  void touch_several(std::mt19937_64& random) {
    std::vector<Slot> slots;
    for (int i = 0; i < 8 && !slot_of_.empty(); ++i) {
      const RowId row = random_row(random);
      slots.push_back(slot_of_[row]);
      naive_->touch(row);
    }
    if (!free_.empty()) slots.push_back(free_.front());
    policy_->touch(slots);
  }

  void evict() {
    const Slot slot = policy_->evict();
    const RowId row = naive_->evict();
    if (row == kNoRow) {
      CHECK_EQ(slot, kNoSlot);
      return;
    }
    CHECK(slot != kNoSlot);
    CHECK_EQ(row_in_.at(slot), row);
    policy_->note_evicted(row);
    forget(row);
  }

  void remove(std::mt19937_64& random) {
    if (slot_of_.empty()) return;
    const RowId row = random_row(random);
    policy_->remove(slot_of_[row]);
    naive_->remove(row);
    forget(row);
  }

  void move(std::mt19937_64& random) {
    if (slot_of_.empty() || free_.empty()) return;
    const RowId row = random_row(random);
    const Slot from = slot_of_[row];
    const Slot to = free_.front();
    policy_->move(from, to);
    free_.erase(free_.begin());
    free_.push_back(from);
    row_in_.erase(from);
    slot_of_[row] = to;
    row_in_[to] = row;
  }

 private:
  RowId random_row(std::mt19937_64& random) {
    return std::next(slot_of_.begin(), static_cast<std::ptrdiff_t>(random() % slot_of_.size()))
        ->first;
  }

  void forget(RowId row) {
    const Slot slot = slot_of_.at(row);
    slot_of_.erase(row);
    row_in_.erase(slot);
    free_.push_back(slot);
  }

  std::uint32_t capacity_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<NaivePolicy> naive_;
  std::vector<Slot> free_;
  std::map<RowId, Slot> slot_of_;
  std::map<Slot, RowId> row_in_;
};

/// A skewed distribution, interrupted by scans.
RowId skewed_row(std::mt19937_64& random, std::uint32_t capacity, std::size_t step) {
  if (step / 300 % 4 == 3) return 1000000 + step;
  const double uniform = std::uniform_real_distribution<double>(0.0, 1.0)(random);
  return static_cast<RowId>(std::pow(uniform, 3) * 4 * capacity);
}

void compare_with_naive(const std::string& name) {
  for (std::uint32_t capacity : {1u, 2u, 3u, 9u, 10u, 11u, 37u, 100u}) {
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      std::mt19937_64 random(seed * 1000 + capacity);
      Driver driver(name, capacity, 3);
      for (std::size_t step = 0; step < 4000; ++step) {
        driver.access(skewed_row(random, capacity, step));
        // The second run makes the calls of a simulation only; the others make all calls.
        if (seed == 1) continue;
        if (random() % 10 == 0) driver.touch_several(random);
        if (random() % 20 == 0) driver.move(random);
        if (random() % 40 == 0) driver.remove(random);
        if (random() % 60 == 0) driver.evict();
        if (random() % 1500 == 0) {
          while (driver.held() > 0) driver.evict();
          driver.evict();
        }
      }
    }
  }
}

TEST(lru_random_calls_match_naive) {
  compare_with_naive("lru");
}
TEST(lfu_random_calls_match_naive) {
  compare_with_naive("lfu");
}
TEST(clock_random_calls_match_naive) {
  compare_with_naive("clock");
}
TEST(sieve_random_calls_match_naive) {
  compare_with_naive("sieve");
}
TEST(s3fifo_random_calls_match_naive) {
  compare_with_naive("s3fifo");
}

TEST(policies_except_random_have_a_naive_implementation) {
  for (const std::string& name : eviction_policy_names()) {
    CHECK_EQ(make_naive_policy(name, 10) == nullptr, name == "random");
  }
}

std::vector<Slot> random_victims(std::uint64_t seed) {
  constexpr std::uint32_t kSlots = 64;
  const auto policy =
      make_eviction_policy("random", {.capacity = kSlots, .slots = kSlots, .seed = seed});
  for (Slot slot = 0; slot < kSlots; ++slot) policy->insert(slot, slot);
  std::vector<Slot> victims;
  for (std::uint32_t i = 0; i < kSlots; ++i) victims.push_back(policy->evict());
  CHECK_EQ(policy->evict(), kNoSlot);
  return victims;
}

TEST(random_evictions_are_a_permutation_by_seed) {
  const std::vector<Slot> victims = random_victims(1);
  CHECK_EQ(std::set<Slot>(victims.begin(), victims.end()).size(), victims.size());
  CHECK(victims == random_victims(1));
  CHECK(victims != random_victims(2));
}

TEST(random_evictions_are_uniform) {
  constexpr std::uint32_t kSlots = 16;
  constexpr int kRounds = 16000;
  const auto policy =
      make_eviction_policy("random", {.capacity = kSlots, .slots = kSlots, .seed = 5});
  std::vector<int> evicted(kSlots);
  for (Slot slot = 0; slot < kSlots; ++slot) policy->insert(slot, slot);
  for (int round = 0; round < kRounds; ++round) {
    const Slot victim = policy->evict();
    ++evicted[victim];
    policy->insert(victim, 0);
  }
  // The mean is 1000, the standard deviation 31.
  for (int count : evicted) CHECK(count > 800 && count < 1200);
}

TEST(random_after_remove_and_move_evicts_held_slots) {
  const auto policy = make_eviction_policy("random", {.capacity = 3, .slots = 5, .seed = 1});
  for (Slot slot : {0u, 1u, 2u}) policy->insert(slot, slot);
  policy->remove(1);
  policy->move(0, 4);
  const std::set<Slot> victims{policy->evict(), policy->evict()};
  CHECK(victims == (std::set<Slot>{2, 4}));
  CHECK_EQ(policy->evict(), kNoSlot);
}

TEST(policies_allocate_their_stated_bytes) {
  for (const std::string& name : eviction_policy_names()) {
    for (std::uint32_t capacity : {1u, 7u, 100u, 5000u}) {
      const EvictionConfig config{.capacity = capacity, .slots = capacity + 9};
      const std::size_t before = faults::allocated_bytes();
      const auto policy = make_eviction_policy(name, config);
      CHECK_EQ(faults::allocated_bytes() - before, eviction_policy_bytes(name, config));
    }
  }
}

TEST(policies_with_invalid_name_or_size_throw) {
  const EvictionConfig one{.capacity = 1, .slots = 1};
  CHECK_THROWS(std::invalid_argument, make_eviction_policy("fifo", one),
               "expected one of lru, lfu, clock, sieve, s3fifo, random, got 'fifo'");
  CHECK_THROWS(std::invalid_argument, eviction_policy_bytes("", one), "''");
  CHECK_THROWS(std::invalid_argument, make_eviction_policy("lru", {.capacity = 0, .slots = 1}),
               "capacity: too small; expected at least 1 row, got 0");
  CHECK_THROWS(std::invalid_argument, make_eviction_policy("lru", {.capacity = 2, .slots = 1}),
               "slots: out of range; expected 2 to 2147483646, got 1");
}

/// Other threads notify of hits on any slot at any time. They may change the choice of victims, but
/// every inserted row is evicted exactly once.
void check_concurrent_hits(const std::string& name) {
  constexpr std::uint32_t kCapacity = 50;
  constexpr std::uint32_t kSlots = kCapacity + 8;
  const auto policy = make_eviction_policy(name, {.capacity = kCapacity, .slots = kSlots});
  if (!policy->touch_is_concurrent()) return;
  Threads threads;
  for (int i = 0; i < 2; ++i) {
    threads.start([&, i] {
      std::mt19937_64 random(static_cast<std::uint64_t>(i));
      std::vector<Slot> slots(16);
      while (!threads.stopped()) {
        for (Slot& slot : slots) slot = static_cast<Slot>(random() % kSlots);
        policy->touch(slots);
      }
    });
  }
  threads.start([&] {
    std::set<Slot> held;
    std::vector<Slot> free;
    for (Slot slot = 0; slot < kSlots; ++slot) free.push_back(slot);
    for (std::size_t step = 0; step < stressed(10000); ++step) {
      if (held.size() == kCapacity) {
        const Slot victim = policy->evict();
        CHECK_EQ(held.erase(victim), 1);
        free.push_back(victim);
      }
      const Slot slot = free.front();
      free.erase(free.begin());
      policy->insert(slot, step);
      held.insert(slot);
      if (step % 3 == 0) {
        policy->move(slot, free.front());
        held.erase(slot);
        held.insert(free.front());
        free.erase(free.begin());
        free.push_back(slot);
      }
    }
    while (!held.empty()) CHECK_EQ(held.erase(policy->evict()), 1);
    CHECK_EQ(policy->evict(), kNoSlot);
    threads.stop();
  });
  threads.join();
}

TEST(policies_with_concurrent_hits_evict_each_row_once) {
  for (const std::string& name : eviction_policy_names()) check_concurrent_hits(name);
}

}  // namespace
