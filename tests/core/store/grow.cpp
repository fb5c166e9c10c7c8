// grow.cpp: tables that receive rows while calls go on: beside a plain array, at failures, and with
// lookups, updates and scans of other threads.
#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kRows = 500;

/// 0 for a row of zeros, which was never written.
std::uint64_t version_of(StoreBench& bench, const Table& table, std::int64_t row) {
  std::vector<double> out(table.layout.dim);
  const TableSegment part{&table};
  const Rows rows = {row};
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.mode = Mode::copy;
  call.bags = 1;
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = out.size() * sizeof(double);
  call.out_dtype = DType::float64;
  bench.store().embedding_bag(call);
  if (std::all_of(out.begin(), out.end(), [](double value) { return value == 0; })) return 0;
  const Seen seen = seen_in(out.data(), out.size());
  CHECK_EQ(seen.row, row);
  return seen.version;
}

/// Random calls on tables of different sizes, beside a map of the versions.
void check_random_calls(StoreBench& bench, std::uint64_t seed, bool reopens) {
  std::mt19937_64 random(seed);
  const char* const names[] = {"a", "b", "c"};
  std::map<std::string, std::vector<std::uint64_t>> versions;  // 0: zeros
  const auto table_of = [&](const std::string& name) -> const Table& {
    for (const Table* table : bench.store().tables()) {
      if (table->layout.name == name) return *table;
    }
    check::fail(__FILE__, __LINE__, "no table " + name);
  };
  for (const char* name : names) {
    const std::uint32_t dim = 1 + random() % 90;
    const Residency residency = random() % 2 == 0 ? Residency::automatic : Residency::never;
    bench.store().create_table(name, 3, dim, DType::float64, residency);
    versions[name] = {0, 0, 0};
  }
  for (std::uint64_t step = 1; step < 150; ++step) {
    const std::string name = names[random() % 3];
    const Table& table = table_of(name);
    std::vector<std::uint64_t>& rows = versions[name];
    const auto row = static_cast<std::int64_t>(random() % rows.size());
    switch (random() % 8) {
      case 0:
      case 1:
        rows.resize(rows.size() + random() % 200);
        bench.store().grow_table(table, rows.size());
        CHECK_EQ(table.num_rows(), rows.size());
        break;
      case 2:
        bench.load(table, static_cast<std::uint64_t>(row), rows.size() - row, step);
        std::fill(rows.begin() + row, rows.end(), step);
        break;
      case 3:
      case 4:
        bench.update(table, {row}, step);
        rows[row] = step;
        break;
      case 5:
        if (reopens) bench.reopen();
        break;
      default:
        CHECK_EQ(version_of(bench, table, row), rows[row]);
    }
  }
  for (const char* name : names) {
    for (std::size_t row = 0; row < versions[name].size(); ++row) {
      CHECK_EQ(version_of(bench, table_of(name), static_cast<std::int64_t>(row)),
               versions[name][row]);
    }
  }
}

TEST(grown_tables_of_a_file_equal_a_plain_array) {
  for (std::size_t seed = 0; seed < stressed(8); ++seed) {
    StoreOptions options = of_rows(60);
    if (seed % 3 == 0) options.budget = {.bytes = 1 << 20};
    StoreBench bench(options);
    check_random_calls(bench, seed, true);
  }
}

TEST(grown_tables_in_memory_equal_a_plain_array) {
  for (std::size_t seed = 0; seed < stressed(4); ++seed) {
    StoreBench bench(of_rows(60), MemoryPoolOptions{});
    check_random_calls(bench, seed, false);
  }
}

TEST(growth_takes_the_space_behind_the_table_or_moves_it) {
  StoreBench bench(of_rows(100));
  const Table& first = bench.add_table("first", kRows, 16);
  const Table& last = bench.add_table("last", kRows, 16);
  const std::uint64_t place = last.layout.offset;
  bench.store().grow_table(last, 3 * kRows);
  CHECK_EQ(last.layout.offset, place);  // at the end of the file
  bench.store().grow_table(first, 2 * kRows);
  CHECK(first.layout.offset > place);  // behind the last one
  bench.store().grow_table(last, 4 * kRows);
  CHECK(last.layout.offset > first.layout.offset);
  bench.store().grow_table(first, 3 * kRows);  // to the gap that both left
  CHECK(first.layout.offset < place);
  const std::uint64_t begin = first.layout.offset;
  bench.store().grow_table(first, 3 * kRows + 100);  // there is space behind it
  CHECK_EQ(first.layout.offset, begin);
  bench.reopen();
  for (const Table* table : bench.store().tables()) {
    for (const std::uint64_t version : bench.lookup(*table, rows_from(0, kRows))) {
      CHECK_EQ(version, 0);
    }
    CHECK_EQ(version_of(bench, *table, 2 * kRows), 0);
  }
}

TEST(growth_keeps_resident_rows_and_pins) {
  StoreBench bench(of_rows(200));
  const Table& first = bench.add_table("first", kRows, 4);
  const Table& second = bench.add_table("second", kRows, 4);
  bench.lookup(first, rows_from(0, 50));
  bench.lookup(second, rows_from(0, 50));
  const Rows pinned = {7};
  bench.store().pin(second, integers(pinned));
  bench.store().grow_table(first, 4 * kRows);
  bench.store().reset_stats();
  bench.lookup(first, rows_from(0, 50));
  bench.lookup(second, rows_from(0, 50));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
  CHECK_EQ(bench.store().stats().pinned_rows, 1);
}

TEST(invalid_growth_changes_nothing) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("a", kRows, 4);
  Store& store = bench.store();
  CHECK_THROWS(std::invalid_argument, store.grow_table(table, kRows - 1), "at least the 500");
  CHECK_THROWS(std::invalid_argument, store.grow_table(table, kMaxTableRows + 1), "at most");
  store.record_accesses(1000);
  CHECK_THROWS(std::invalid_argument, store.grow_table(table, kRows + 1), "being recorded");
  store.record_accesses(0);
  store.grow_table(table, kRows);
  CHECK_EQ(table.num_rows(), kRows);
  store.close();
  CHECK_THROWS(std::invalid_argument, store.grow_table(table, kRows + 1), "closed");
}

/// Whichever call fails, at the end of the file or in a copy, the table is as before, and grows
/// once the fault is gone.
TEST(failed_growth_changes_nothing) {
  for (const bool moves : {false, true}) {
    for (const faults::Call call : {faults::Call::write, faults::Call::sync, faults::Call::reserve,
                                    faults::Call::allocate, faults::Call::map}) {
      bool is_over = false;
      for (std::size_t after = 0; !is_over; after += call == faults::Call::allocate ? 7 : 1) {
        StoreBench bench(of_rows(100));
        const Table& table = bench.add_table("a", kRows, 16);
        if (moves) bench.add_table("b", 10, 16);
        bench.store().settle();
        bench.update(table, {3}, 5);
        const std::uint64_t bytes = bench.store().stats().slow.bytes;
        {
          const faults::Fault fault(call, ENOSPC, after, 1);
          try {
            bench.store().grow_table(table, 4 * kRows);
          } catch (const std::exception&) {
            CHECK(fault.struck() > 0);
            CHECK_EQ(table.num_rows(), kRows);
            CHECK(bench.store().stats().slow.bytes <= bytes + kPage);
          }
          is_over = fault.struck() == 0;
        }
        CHECK_EQ(bench.lookup(table, {3})[0], 5);
        bench.store().grow_table(table, 4 * kRows);
        CHECK_EQ(version_of(bench, table, 4 * kRows - 1), 0);
        bench.reopen();
        CHECK_EQ(bench.store().tables()[0]->num_rows(), 4 * kRows);
        CHECK_EQ(bench.lookup(*bench.store().tables()[0], {3})[0], 5);
      }
    }
  }
}

TEST(calls_beside_growth_see_current_values) {
  for (const bool in_memory : {false, true}) {
    const StoreOptions options = of_rows(300);
    auto bench = in_memory ? std::make_unique<StoreBench>(options, MemoryPoolOptions{})
                           : std::make_unique<StoreBench>(options);
    const Table& grown = bench->add_table("grown", kRows, 16);
    const Table& other = bench->add_table("other", kRows, 16);
    Threads threads;
    threads.start([&] {
      std::mt19937_64 random(1);
      while (!threads.stopped()) {
        const auto row = static_cast<std::int64_t>(random() % kRows);
        if (row == 7) continue;
        CHECK_EQ(bench->lookup(grown, {row})[0], 0);
        CHECK_EQ(bench->lookup(other, {row})[0], 0);
        (void)bench->prefetch(grown, {row, static_cast<std::int64_t>(random() % kRows)});
        (void)bench->store().damaged_pages(other, 0, 1);
        (void)bench->store().layout_of(grown);
      }
    });
    threads.start([&] {
      for (std::uint64_t version = 1; !threads.stopped(); ++version) {
        for (const Table* table : {&grown, &other}) {
          bench->update(*table, {7}, version);
          CHECK_EQ(bench->lookup(*table, {7})[0], version);
        }
      }
    });
    threads.start([&] {
      for (std::uint64_t round = 1; round < stressed(15); ++round) {
        bench->store().grow_table(round % 2 == 0 ? other : grown, kRows + round * 100);
      }
      threads.stop();
    });
    threads.join();
  }
}

}  // namespace
