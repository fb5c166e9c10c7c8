// delta.cpp: deltas of two tables beside lookups: a call sees all rows of a delta, or none.
#include "store/delta.hpp"

#include <array>
#include <atomic>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kRows = 400;
constexpr std::uint32_t kDim = 9;

std::vector<double> values_of(const Rows& rows, std::uint64_t version) {
  std::vector<double> values;
  for (const std::int64_t row : rows) {
    for (std::size_t j = 0; j < kDim; ++j) values.push_back(element(row, version, j));
  }
  return values;
}

void apply(Store& store, const std::vector<const Table*>& tables, const Rows& rows,
           std::uint64_t version) {
  std::vector<DeltaPart> parts;
  for (const Table* table : tables) parts.push_back({&table->layout, rows.size()});
  const auto delta = store.begin_delta(parts);
  const std::vector<double> values = values_of(rows, version);
  for (const Table* table : tables) {
    delta->stage(*table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  }
  delta->commit(version);
}

/// Rows of all tables by one call; every row must have the same version, which is returned.
std::uint64_t version_in(Store& store, const std::vector<const Table*>& tables, const Rows& rows) {
  std::vector<TableSegment> parts;
  Rows indices;
  for (const Table* table : tables) {
    parts.push_back({table});
    indices.insert(indices.end(), rows.begin(), rows.end());
  }
  const std::size_t width = tables.size() * kDim;
  std::vector<double> out(rows.size() * width);
  BagCall call = StoreBench::call_of(parts.data(), parts.size(), indices);
  call.bags = rows.size();
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = width * sizeof(double);
  call.out_dtype = DType::float64;
  store.embedding_bag(call);
  const std::uint64_t version = seen_in(out.data(), kDim).version;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const Seen seen = seen_in(out.data() + i * width + t * kDim, kDim);
      CHECK_EQ(seen.row, rows[i]);
      CHECK_EQ(seen.version, version);
    }
  }
  return version;
}

/// Tables with copies in a tier, and one that lies in DRAM as a whole.
class DeltaStress {
 public:
  explicit DeltaStress(const std::string& policy) : bench_(options(policy)) {
    for (const Residency residency : {Residency::never, Residency::never, Residency::always}) {
      tables_.push_back(
          &bench_.add_table("t" + std::to_string(tables_.size()), kRows, kDim, residency));
    }
  }

  void run() {
    Threads threads;
    std::atomic<std::uint64_t> applied{0};
    for (std::uint64_t id = 0; id < 3; ++id) {
      threads.start([&, id] {
        std::mt19937_64 random(id);
        while (!threads.stopped()) {
          const std::uint64_t at_least = applied;
          CHECK(version_in(bench_.store(), tables_, some_rows(random, 30)) >= at_least);
        }
      });
    }
    threads.start([&] {
      std::mt19937_64 random(9);
      while (!threads.stopped()) {
        bench_.prefetch(*tables_[random() % 2], some_rows(random, 40));
        if (random() % 10 == 0) bench_.store().flush();
        if (random() % 10 == 0) {
          const Rows rows = some_rows(random, 3);
          bench_.store().pin(*tables_[0], integers(rows));
          bench_.store().unpin(*tables_[0], integers(rows));
        }
      }
    });
    threads.start([&] {
      const Rows all = rows_from(0, kRows);
      for (std::uint64_t version = 1; version <= stressed(60); ++version) {
        apply(bench_.store(), tables_, all, version);
        CHECK_EQ(bench_.store().version(), version);
        applied = version;
      }
      threads.stop();
    });
    threads.join();
  }

  void check_after_reopening() {
    const std::uint64_t version = bench_.store().version();
    bench_.reopen();
    tables_ = bench_.store().tables();
    CHECK_EQ(bench_.store().version(), version);
    CHECK_EQ(version_in(bench_.store(), tables_, rows_from(0, kRows)), version);
  }

 private:
  static StoreOptions options(const std::string& policy) {
    StoreOptions options;
    options.budget.bytes = 256 << 10;
    options.policy = policy;
    return options;
  }
  static Rows some_rows(std::mt19937_64& random, std::size_t count) {
    Rows rows(count);
    for (std::int64_t& row : rows) row = static_cast<std::int64_t>(random() % kRows);
    return rows;
  }

  StoreBench bench_;
  std::vector<const Table*> tables_;
};

TEST(calls_see_all_rows_of_a_delta_or_none) {
  for (const char* policy : {"lru", "s3fifo"}) {
    DeltaStress stress(policy);
    stress.run();
    stress.check_after_reopening();
  }
}

TEST(delta_keeps_copies_resident_with_new_values) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", kRows, kDim);
  bench.lookup(table, rows_from(0, 40));
  const Rows pinned{3, 4};
  bench.store().pin(table, integers(pinned));
  const std::uint64_t misses = bench.store().stats().on_demand_fetches;
  apply(bench.store(), {&table}, rows_from(0, 100), 7);
  for (const std::uint64_t version : bench.lookup(table, rows_from(0, 40))) CHECK_EQ(version, 7);
  CHECK_EQ(bench.store().stats().on_demand_fetches, misses);
  for (const std::uint64_t version : bench.lookup(table, rows_from(100, 40))) CHECK_EQ(version, 0);
}

TEST(dropped_delta_lets_other_writers_go_on) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", kRows, kDim);
  const Rows rows{1, 2, static_cast<std::int64_t>(kRows)};
  const DeltaPart part{&table.layout, rows.size()};
  {
    const auto delta = bench.store().begin_delta({&part, 1});
    CHECK_THROWS(std::out_of_range, delta->stage(table, integers(rows), nullptr), "400");
  }
  bench.update(table, {1}, 3);
  CHECK_EQ(bench.lookup(table, {1, 2})[0], 3);
  CHECK_EQ(bench.store().version(), 0);
}

TEST(pool_without_versions_refuses_deltas) {
  StoreBench bench(of_rows(50), MemoryPoolOptions{});
  const Table& table = bench.add_table("t", kRows, kDim);
  const DeltaPart part{&table.layout, 1};
  CHECK_THROWS(std::invalid_argument, bench.store().begin_delta({&part, 1}), "keeps no version");
}

}  // namespace
