// fast_tier_model.cpp: random calls on a fast tier and on a model of it; readers beside them.
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "check.hpp"
#include "fast_tier/fast_tier_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using namespace tieralloc::fast_tier_bench;

/// The value of each row, whether the slow tier has it, and the pinned rows.
class Model {
 public:
  Model(Slot capacity, const std::string& policy, bool in_place)
      : bench_(capacity, kRows, policy, in_place), in_place_(in_place), random_(capacity) {}

  void step() {
    const RowId row = random_() % kRows;
    std::lock_guard lock(bench_.tier.mutex());
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        update(row);
        break;
      case 3:
        reload(row);
        break;
      case 4:
        pin(row);
        break;
      case 5:
        bench_.tier.unpin({row});
        pinned_.erase(row);
        break;
      case 6:
        write_back();
        break;
      default:
        fetch(row);
    }
    check();
  }

 private:
  static constexpr RowId kRows = 60;

  void update(RowId row) {
    const bool is_updated = bench_.tier.update({row}, row_of(row, ++version_).data());
    if (!in_place_) {
      CHECK(is_updated);
      latest_[row] = slow_[row] = version_;
    } else if (is_updated) {
      latest_[row] = version_;
      dirty_.insert(row);
    }
  }

  /// The slow tier has a new value; copies are dropped.
  void reload(RowId row) {
    bench_.tier.clean({row});
    dirty_.erase(row);
    latest_[row] = slow_[row] = ++version_;
    bench_.tier.discard({row});
    pinned_.erase(row);
  }

  void fetch(RowId row) {
    if (bench_.tier.find(TierRow{row}) != kAbsent) return;
    CHECK_EQ(latest_[row], slow_[row]);  // nothing was lost
    bench_.tier.admit({row}, row_of(row, slow_[row]).data(), FastTier::Admit::on_demand);
  }

  void pin(RowId row) {
    if (pinned_.contains(row) || bench_.tier.find(TierRow{row}) == kAbsent) return;
    if (bench_.tier.is_staged({row})) return;
    try {
      bench_.tier.pins().reserve(1);
    } catch (const std::invalid_argument&) {
      return;
    }
    bench_.tier.pin({row});
    pinned_.insert(row);
  }

  void write_back() {
    for (const RowId row : std::set<RowId>(dirty_)) {
      if (random_() % 4 == 0) continue;
      slow_[row] = latest_[row];
      bench_.tier.clean({row});
      dirty_.erase(row);
    }
  }

  void check() {
    Slot resident = 0;
    for (RowId row = 0; row < kRows; ++row) {
      const Entry entry = bench_.tier.find(TierRow{row});
      if (entry == kAbsent) {
        CHECK_EQ(latest_[row], slow_[row]);
        CHECK(!pinned_.contains(row));
        continue;
      }
      if (!bench_.tier.is_staged({row})) ++resident;
      CHECK(std::memcmp(bench_.tier.row(slot_of(entry)), row_of(row, latest_[row]).data(),
                        kStride) == 0);
      CHECK_EQ(bench_.tier.is_pinned({row}), pinned_.contains(row));
    }
    CHECK_EQ(resident, bench_.tier.resident_rows());
    CHECK_EQ(bench_.tier.num_dirty(), dirty_.size());
    CHECK_EQ(bench_.tier.pins().count(), pinned_.size());
  }

  Bench bench_;
  const bool in_place_;
  std::mt19937_64 random_;
  std::uint64_t version_ = 0;
  std::map<RowId, std::uint64_t> latest_, slow_;
  std::set<RowId> pinned_, dirty_;
};

TEST(random_operations_lose_no_value) {
  for (const std::string& policy : eviction_policy_names()) {
    for (Slot capacity : {1u, 2u, 5u, 30u, 60u}) {
      for (bool in_place : {false, true}) {
        Model model(capacity, policy, in_place);
        for (int i = 0; i < 1000; ++i) model.step();
      }
    }
  }
}

/// Readers follow the index without a lock while rows are updated, evicted and admitted.
void read_beside_updates(const std::string& policy, RowId rows, bool in_place) {
  Bench bench(12, rows, policy, in_place);
  Threads threads;
  for (std::uint64_t reader = 0; reader < 2; ++reader) {
    threads.start([&, reader] {
      std::mt19937_64 random(reader);
      while (!threads.stopped()) {
        ReadGuard call(bench.epochs);
        std::vector<Slot> slots;
        call.begin_read();
        for (int i = 0; i < 10; ++i) {
          const RowId row = random() % 40;
          const Entry entry = bench.tier.find(TierRow{row});
          if (entry == kAbsent) continue;
          std::uint64_t words[kStride / 8];
          std::memcpy(words, bench.tier.row(slot_of(entry)), kStride);
          for (std::uint64_t word : words) CHECK_EQ(word, words[0]);
          CHECK_EQ(words[0] / 1000000, row);
          slots.push_back(slot_of(entry));
        }
        call.end_read();
        bench.tier.touch(slots);
      }
    });
  }
  threads.start([&] {
    std::mt19937_64 random(9);
    for (std::uint64_t step = 0; step < stressed(4000) && !threads.stopped(); ++step) {
      const RowId row = random() % 40;
      std::lock_guard lock(bench.tier.mutex());
      if (random() % 2 == 0) {
        bench.tier.update({row}, row_of(row, step).data());
      } else if (bench.tier.find(TierRow{row}) == kAbsent) {
        bench.tier.admit({row}, row_of(row, step).data(), FastTier::Admit::on_demand);
      }
      if (random() % 8 == 0) {
        for (RowId other = 0; other < 40; ++other) bench.tier.clean({other});
      }
    }
    threads.stop();
  });
  threads.join();
}

TEST(readers_see_no_torn_or_foreign_row) {
  for (const std::string& policy : eviction_policy_names()) {
    for (bool in_place : {false, true}) {
      read_beside_updates(policy, 40, in_place);        // a direct index
      read_beside_updates(policy, 1u << 20, in_place);  // a hashed one
    }
  }
}

}  // namespace
