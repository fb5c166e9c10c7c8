// store_stress.cpp: all operations at once on a store of few slots. Rows have their number and
// version in every element, so torn, lost, outdated and foreign rows are detected.
#include <array>
#include <atomic>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "policy/external_policy.hpp"
#include "policy/fake_model.hpp"
#include "slow_tier/file/engine.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 300;
constexpr std::uint32_t kDim = 9;
constexpr std::size_t kUpdaters = 2;

/// A table and the versions of its rows. Row r of the first two tables is updated by updater
/// r % kUpdaters alone, rows of the third are only loaded.
struct Watched {
  const Table* table = nullptr;
  /// Version of the last update that has begun, and of the last that has returned.
  std::array<std::atomic<std::uint64_t>, kRows> begun{};
  std::array<std::atomic<std::uint64_t>, kRows> done{};
};

class Stress {
 public:
  Stress(const StoreOptions& options, const FilePoolOptions& file, std::size_t steps)
      : bench_(options, file), steps_(stressed(steps)), capacity_(options.budget.rows) {
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      const auto residency = i == 1 ? Residency::never : Residency::automatic;
      tables_[i].table = &bench_.add_table("t" + std::to_string(i), kRows, kDim, residency);
    }
  }

  /// Runs all threads concurrently; threads without an end stop after the updaters' last step.
  void run() {
    for (std::size_t id = 0; id < kUpdaters; ++id) {
      threads_.start([this, id] {
        update(id);
        if (++ended_ == kUpdaters) threads_.stop();
      });
    }
    threads_.start([this] { repeat(1, [this](auto& random) { look_up(random); }); });
    threads_.start([this] { repeat(2, [this](auto& random) { pool_bags(random); }); });
    threads_.start([this] { repeat(3, [this](auto& random) { prefetch(random); }); });
    threads_.start([this] { repeat(4, [this](auto& random) { pin(random); }); });
    threads_.start([this] { repeat(5, [this](auto& random) { keep_house(random); }); });
    threads_.join();
  }

  /// After the last update: every row has its last version, in this store and in the next.
  void check_nothing_lost() {
    check_versions();
    bench_.reopen();
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      tables_[i].table = bench_.store().tables()[i];
    }
    check_versions();
  }

  Store& store() { return bench_.store(); }

 private:
  template <typename Body>
  void repeat(std::uint64_t seed, Body body) {
    std::mt19937_64 random(seed);
    while (!threads_.stopped()) body(random);
  }

  Watched& some_table(std::mt19937_64& random) { return tables_[random() % tables_.size()]; }

  /// Half of them among a tenth of the rows.
  static std::int64_t some_row(std::mt19937_64& random) {
    return static_cast<std::int64_t>(random() % (random() % 2 == 0 ? kRows : kRows / 10));
  }

  static Rows some_rows(std::mt19937_64& random, std::size_t most) {
    Rows rows(1 + random() % most);
    for (std::int64_t& row : rows) row = some_row(random);
    return rows;
  }

  void update(std::size_t id) {
    std::mt19937_64 random(id);
    for (std::uint64_t step = 1; step <= steps_ && !threads_.stopped(); ++step) {
      Watched& watched = tables_[random() % 2];
      Rows rows = some_rows(random, 6);
      for (std::int64_t& row : rows) {
        row = (row / static_cast<std::int64_t>(kUpdaters) * static_cast<std::int64_t>(kUpdaters) +
               static_cast<std::int64_t>(id)) %
              kRows;
        watched.begun[row] = step;
      }
      bench_.update(*watched.table, rows, step);
      for (std::int64_t row : rows) watched.done[row] = step;
    }
  }

  void look_up(std::mt19937_64& random) {
    Watched& watched = some_table(random);
    const Rows rows = some_rows(random, random() % 10 == 0 ? 1500 : 20);
    std::vector<std::uint64_t> at_least;
    for (std::int64_t row : rows) at_least.push_back(watched.done[row]);
    const std::vector<std::uint64_t> versions = bench_.lookup(*watched.table, rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(versions[i] >= at_least[i]);
      CHECK(versions[i] <= watched.begun[rows[i]]);
    }
  }

  /// Sums over bags of two tables. In a sum of whole rows all elements agree on the sum of the
  /// rows' numbers and on the sum of their versions.
  void pool_bags(std::mt19937_64& random) {
    const std::array<TableSegment, 2> parts{TableSegment{tables_[0].table},
                                            TableSegment{tables_[1].table}};
    const std::size_t bags = 1 + random() % 6;
    Rows indices;
    Rows offsets;
    std::vector<std::uint64_t> at_least;
    for (std::size_t i = 0; i < parts.size() * bags; ++i) {
      offsets.push_back(static_cast<std::int64_t>(indices.size()));
      at_least.push_back(0);
      for (std::uint64_t n = random() % 12; n > 0; --n) {
        indices.push_back(some_row(random));
        at_least.back() += tables_[i / bags].done[indices.back()];
      }
    }
    std::vector<double> out(parts.size() * bags * kDim);
    BagCall call = StoreBench::call_of(parts.data(), parts.size(), indices);
    call.bags = bags;
    call.offsets = integers(offsets);
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = parts.size() * kDim * sizeof(double);
    call.out_dtype = DType::float64;
    bench_.store().embedding_bag(call);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < parts.size() * bags; ++i) {
      const std::size_t end = call.bag_end(i, begin);
      const double* bag = &out[(i % bags) * parts.size() * kDim + (i / bags) * kDim];
      double numbers = 0;
      std::uint64_t at_most = 0;
      for (std::size_t at = begin; at < end; ++at) {
        numbers += static_cast<double>(indices[at]);
        at_most += tables_[i / bags].begun[indices[at]];
      }
      const auto rows = static_cast<double>(end - begin);
      begin = end;
      const double versions = bag[0] - std::ldexp(numbers, 20);
      CHECK(versions >= static_cast<double>(at_least[i]));
      CHECK(versions <= static_cast<double>(at_most));
      for (std::size_t j = 0; j < kDim; ++j) {
        CHECK_EQ(bag[j], bag[0] + rows * std::ldexp(static_cast<double>(j), -10));
      }
    }
  }

  void prefetch(std::mt19937_64& random) {
    bench_.prefetch(*some_table(random).table, some_rows(random, 40));
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }

  void pin(std::mt19937_64& random) {
    const Table& table = *some_table(random).table;
    const Rows rows = some_rows(random, 3);
    try {
      bench_.store().pin(table, integers(rows));
    } catch (const std::invalid_argument&) {
      return;  // too many for this capacity
    }
    std::this_thread::yield();
    bench_.store().unpin(table, integers(rows));
  }

  void keep_house(std::mt19937_64& random) {
    Store& store = bench_.store();
    switch (random() % 15) {
      case 0:
        store.flush();
        break;
      case 1:
        make_table();
        break;
      case 2:
        store.settle();
        break;
      case 3:
        load(random);
        break;
      case 4:
        store.record_accesses(random() % 2 == 0 ? 0 : random() % 1000);
        break;
      case 5:
        for (RowId row : store.drain_accesses().rows) CHECK(row < tables_.size() * kRows);
        break;
      case 6:
        store.use_policy(eviction_policy_names()[random() % eviction_policy_names().size()]);
        break;
      case 7:
        use_planned_policy(random);
        break;
      case 8:
        store.warm_up(store.resident_rows());
        break;
      case 9:
        change_budget(random);
        break;
      default: {
        const StoreStats stats = store.stats();
        CHECK(stats.resident_rows <= stats.fast_rows + 2 * spare_slots(1));
        CHECK_EQ(stats.write_back_error, "");
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }

  void use_planned_policy(std::mt19937_64& random) {
    PlannedPolicy policy;
    if (random() % 2 == 0) {
      policy.make = make_learned(fake_model(usual_hazard), {});
    } else {
      const auto decide = [](std::span<const RowId> rows) {
        return ExternalDecisions{std::vector<std::uint8_t>(rows.size(), 1), {rows[0] / 2}};
      };
      const auto chunk = static_cast<std::uint32_t>(1 + random() % 40);
      policy.make = make_external({.eviction_speed = 4, .chunk = chunk, .decide = decide});
    }
    bench_.store().use_policy(policy);
  }

  /// Creates a table, of the same row size or, if there are two slots, of another: the layout of
  /// the fast tiers changes.
  void make_table() {
    if (made_ == 6) return;
    const std::uint32_t dim = made_ % 2 == 1 && capacity_ > 1 ? 3 : 2 * kDim;
    bench_.store().create_table("more " + std::to_string(made_++), 50, dim, DType::float32);
  }

  /// Another size, or a reserved part. Refused if rows that are pinned now do not fit.
  void change_budget(std::mt19937_64& random) {
    try {
      if (capacity_ > 0) {
        const std::uint64_t least = capacity_ > 4 ? 4 : 1;
        bench_.store().resize({.rows = least + random() % (2 * capacity_)});
      } else if (random() % 2 == 0) {
        bench_.store().resize({.bytes = (1 + random() % 4) << 20});
      } else {
        const Table& table = *some_table(random).table;
        bench_.store().reserve(table, random() % 2 * (20'000 + random() % 200'000));
      }
    } catch (const std::invalid_argument&) {
    }
  }

  void load(std::mt19937_64& random) {
    Watched& watched = tables_[2];
    const std::int64_t first = some_row(random);
    const auto count = static_cast<std::int64_t>(random() % 20) % (kRows - first);
    const std::uint64_t version = ++loads_;
    for (std::int64_t row : rows_from(first, count)) watched.begun[row] = version;
    bench_.load(*watched.table, static_cast<std::uint64_t>(first),
                static_cast<std::uint64_t>(count), version);
    for (std::int64_t row : rows_from(first, count)) watched.done[row] = version;
  }

  void check_versions() {
    const Rows all = rows_from(0, kRows);
    for (const Watched& watched : tables_) {
      const std::vector<std::uint64_t> versions = bench_.lookup(*watched.table, all);
      for (std::int64_t row : all) CHECK_EQ(versions[row], watched.done[row].load());
    }
  }

  StoreBench bench_;
  const std::size_t steps_;
  std::array<Watched, 3> tables_;
  std::atomic<std::size_t> ended_{0};
  std::uint64_t capacity_;
  std::size_t made_ = 0;
  std::uint64_t loads_ = 0;
  Threads threads_;
};

void stress(StoreOptions options, const FilePoolOptions& file, std::size_t steps) {
  options.prefetch_threads = 2;
  Stress stress(options, file, steps);
  stress.run();
  const StoreStats stats = stress.store().stats();
  CHECK_EQ(stats.hits + stats.on_demand_fetches, stats.lookups);
  CHECK_EQ(stats.pinned_rows, 0);
  stress.check_nothing_lost();
}

void stress(const std::string& policy, std::uint64_t capacity, const FilePoolOptions& file,
            std::size_t steps) {
  stress(of_rows(capacity, policy), file, steps);
}

/// Two of the three tables are resident, and the tables made during the run.
TEST(nothing_is_torn_or_lost_in_resident_tables) {
  StoreOptions options;
  options.budget.bytes = 3 << 20;
  stress(options, {}, 2500);
}
TEST(nothing_is_torn_or_lost_under_lru) {
  stress("lru", 24, {}, 2500);
}
TEST(nothing_is_torn_or_lost_under_lfu) {
  stress("lfu", 24, {}, 1200);
}
TEST(nothing_is_torn_or_lost_under_clock) {
  stress("clock", 24, {}, 1200);
}
TEST(nothing_is_torn_or_lost_under_sieve) {
  stress("sieve", 24, {}, 1200);
}
TEST(nothing_is_torn_or_lost_under_s3fifo) {
  stress("s3fifo", 24, {}, 2500);
}
TEST(nothing_is_torn_or_lost_under_random) {
  stress("random", 24, {}, 1200);
}
TEST(nothing_is_torn_or_lost_in_one_slot) {
  stress("s3fifo", 1, {}, 600);
}
TEST(nothing_is_torn_or_lost_if_all_rows_fit) {
  stress("lru", 3 * kRows + 200, {}, 2500);
}
TEST(nothing_is_torn_or_lost_through_the_page_cache) {
  stress("clock", 24, {.engine = "pread", .direct = false}, 1200);
}
TEST(nothing_is_torn_or_lost_by_page_faults) {
  stress("sieve", 24, {.engine = "mmap"}, 800);
}
TEST(nothing_is_torn_or_lost_by_single_reads) {
  stress("clock", 24, {.engine = "pread", .queue_depth = 1}, 800);
}

}  // namespace
