// store.cpp: what each call of a store does, with nobody beside it.
#include "store/store.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "base/error.hpp"
#include "check.hpp"
#include "kernels/kernels.hpp"
#include "sim/simulator.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

TEST(a_new_table_is_zero) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.store().create_table("t", 100, 3, DType::float32);
  std::vector<float> out(3, 7.0f);
  const Rows rows{99};
  const TablePart part{&table};
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 1;
  call.mode = Mode::copy;
  call.out = reinterpret_cast<std::byte*>(out.data());
  CHECK_EQ(bench.store().embedding_bag(call), 0);
  CHECK(out == std::vector<float>(3));
}

TEST(rows_loaded_are_looked_up) {
  for (std::uint64_t capacity : {1u, 7u, 300u}) {
    StoreBench bench(of_rows(capacity));
    const Table& table = bench.add_table("t", 300, 5);
    const Rows all = rows_from(0, 300);
    for (int round = 0; round < 3; ++round) {
      CHECK(bench.lookup(table, all) == std::vector<std::uint64_t>(300, 0));
    }
    bench.load(table, 100, 50, 3);
    const auto versions = bench.lookup(table, all);
    for (std::int64_t row : all) CHECK_EQ(versions[row], row >= 100 && row < 150 ? 3 : 0);
    CHECK(bench.lookup(table, {}).empty());
  }
}

TEST(rows_survive_a_store) {
  StoreBench bench(of_rows(20));
  bench.add_table("first", 100, 8);
  bench.add_table("second", 50, 9);
  bench.update(*bench.store().tables()[0], rows_from(10, 30), 5);
  bench.store().flush();
  bench.update(*bench.store().tables()[1], rows_from(0, 10), 6);
  bench.reopen();  // closes, and thereby flushes
  const auto tables = bench.store().tables();
  CHECK_EQ(tables.size(), 2);
  CHECK_EQ(tables[0]->layout.name, "first");
  const auto first = bench.lookup(*tables[0], rows_from(0, 100));
  for (std::size_t row = 0; row < 100; ++row) CHECK_EQ(first[row], row >= 10 && row < 40 ? 5 : 0);
  const auto second = bench.lookup(*tables[1], rows_from(0, 50));
  for (std::size_t row = 0; row < 50; ++row) CHECK_EQ(second[row], row < 10 ? 6 : 0);
}

TEST(an_update_is_what_later_lookups_see) {
  for (const std::string& policy : eviction_policy_names()) {
    for (std::uint64_t capacity : {1u, 4u, 60u}) {
      StoreBench bench(of_rows(capacity, policy));
      const Table& table = bench.add_table("t", 60, 4);
      std::map<std::int64_t, std::uint64_t> model;
      std::mt19937_64 random(capacity);
      for (std::uint64_t step = 1; step < 250; ++step) {
        Rows rows;
        for (std::uint64_t i = 0; i < 1 + random() % 8; ++i) {
          rows.push_back(static_cast<std::int64_t>(random() % 60));
        }
        if (random() % 2 == 0) {
          bench.update(table, rows, step);
          for (std::int64_t row : rows) model[row] = step;
        } else {
          const auto versions = bench.lookup(table, rows);
          for (std::size_t i = 0; i < rows.size(); ++i) CHECK_EQ(versions[i], model[rows[i]]);
        }
        if (random() % 50 == 0) bench.store().flush();
      }
      bench.reopen();
      const auto versions = bench.lookup(*bench.store().tables()[0], rows_from(0, 60));
      for (std::int64_t row = 0; row < 60; ++row) CHECK_EQ(versions[row], model[row]);
    }
  }
}

TEST(of_a_row_given_twice_the_later_value_stays) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 2);
  const Rows rows{3, 5, 3};
  std::vector<double> values;
  for (std::uint64_t version : {1, 2, 3}) {
    for (std::size_t j = 0; j < 2; ++j) values.push_back(element(rows[version - 1], version, j));
  }
  bench.store().update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  CHECK(bench.lookup(table, {3, 5}) == (std::vector<std::uint64_t>{3, 2}));
  CHECK_EQ(bench.store().stats().updated_rows, 3);
}

/// Tables of all types with random bytes of theirs, and what a call must return of them.
class Oracle {
 public:
  Oracle(StoreBench& bench, std::mt19937_64& random) : random_(random) {
    const std::uint32_t dims[] = {1, 7, 16, 33, 64};
    for (DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::float32}) {
      const std::uint64_t rows = 20 + random() % 200;
      const std::uint32_t dim = dims[random() % 5];
      const Table& table =
          bench.store().create_table("t" + std::to_string(tables_.size()), rows, dim, dtype);
      std::vector<std::byte> bytes(rows * dim * size_of(dtype));
      for (std::size_t i = 0; i < rows * dim; ++i) put(bytes.data(), i, dtype);
      bench.store().load(table, 0, rows, bytes.data());
      tables_.push_back(&table);
      bytes_.push_back(std::move(bytes));
    }
  }

  /// A call of some tables, checked bit by bit.
  void call(Store& store) {
    std::vector<TablePart> parts;
    std::vector<std::size_t> which;
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      if (random_() % 2 == 0) continue;
      const auto padding = random_() % 3 == 0 ? static_cast<std::int64_t>(random_() % 5) : -1;
      parts.push_back({tables_[i], padding});
      which.push_back(i);
    }
    if (parts.empty()) return;
    const std::size_t bags = random_() % 40;
    Rows indices;
    Rows offsets{0};
    std::vector<float> weights;
    for (std::size_t part = 0; part < parts.size(); ++part) {
      for (std::size_t bag = 0; bag < bags; ++bag) {
        const std::size_t length = random_() % 30 == 0 ? 1500 : random_() % 6;
        for (std::size_t i = 0; i < length; ++i) {
          indices.push_back(static_cast<std::int64_t>(random_() % parts[part].table->layout.rows));
          weights.push_back(static_cast<float>(random_() % 8) - 3.5f);
        }
        offsets.push_back(static_cast<std::int64_t>(indices.size()));
      }
    }
    if (random_() % 2 == 0 && bags > 0) offsets.pop_back();
    const std::vector<std::int32_t> narrow(indices.begin(), indices.end());
    std::size_t columns = 0;
    for (const TablePart& part : parts) columns += part.table->layout.dim;
    std::vector<float> out(bags * columns, -1.0f);
    BagCall call;
    call.parts = parts;
    call.bags = bags;
    call.indices =
        random_() % 2 == 0 ? Integers{narrow.data(), narrow.size(), false} : integers(indices);
    call.offsets = integers(offsets);
    call.mode = std::array{Mode::sum, Mode::mean, Mode::max}[random_() % 3];
    if (call.mode == Mode::sum && random_() % 2 == 0) call.weights = weights.data();
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = columns * sizeof(float);
    CHECK_EQ(store.embedding_bag(call), 0);
    const std::vector<float> wanted = expected(call, which, columns);
    CHECK(std::ranges::equal(std::as_bytes(std::span(out)), std::as_bytes(std::span(wanted))));
  }

 private:
  void put(std::byte* bytes, std::size_t i, DType dtype) {
    const float value = std::normal_distribution<float>(0, 1)(random_);
    const Half half = from_float<Half>(value);
    const BFloat16 bfloat16 = from_float<BFloat16>(value);
    const void* from = dtype == DType::float32   ? static_cast<const void*>(&value)
                       : dtype == DType::float16 ? static_cast<const void*>(&half)
                                                 : static_cast<const void*>(&bfloat16);
    std::memcpy(bytes + i * size_of(dtype), from, size_of(dtype));
  }

  /// Bag by bag from the bytes loaded, by the kernel that kernels.cpp checks.
  std::vector<float> expected(const BagCall& call, const std::vector<std::size_t>& which,
                              std::size_t columns) const {
    std::vector<float> out(call.bags * columns);
    std::size_t column = 0;
    for (std::size_t part = 0; part < call.parts.size(); ++part) {
      const TableLayout& layout = call.parts[part].table->layout;
      const std::size_t row_bytes = layout.dim * size_of(layout.dtype);
      for (std::size_t bag = 0; bag < call.bags; ++bag) {
        std::vector<const std::byte*> rows;
        std::vector<float> weights;
        const std::size_t at = part * call.bags + bag;
        for (std::size_t i = call.bag_begin(at); i < call.bag_end(at); ++i) {
          if (call.indices[i] == call.parts[part].padding) continue;
          rows.push_back(bytes_[which[part]].data() +
                         static_cast<std::size_t>(call.indices[i]) * row_bytes);
          if (call.weights) weights.push_back(static_cast<const float*>(call.weights)[i]);
        }
        const auto length = static_cast<std::uint32_t>(rows.size());
        const PoolJob job{rows.data(),
                          &length,
                          1,
                          call.weights ? weights.data() : nullptr,
                          layout.dim,
                          reinterpret_cast<std::byte*>(&out[bag * columns + column]),
                          0};
        choose_pool(layout.dtype, DType::float32, call.mode, call.weights != nullptr)(job);
      }
      column += layout.dim;
    }
    return out;
  }

  std::mt19937_64& random_;
  std::vector<const Table*> tables_;
  std::vector<std::vector<std::byte>> bytes_;
};

TEST(pooled_rows_are_the_same_bit_for_bit_wherever_they_come_from) {
  std::mt19937_64 random(4);
  for (std::uint64_t capacity : {4u, 50u, 400u, 1000u}) {
    StoreBench bench(of_rows(capacity, "s3fifo"));
    Oracle oracle(bench, random);
    for (std::size_t i = 0; i < 40; ++i) oracle.call(bench.store());
  }
}

TEST(without_offsets_every_index_is_pooled_by_itself) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 3);
  const Rows rows{5, 1, 5, 9};
  for (Mode mode : {Mode::copy, Mode::sum, Mode::mean, Mode::max}) {
    const TablePart part{&table};
    std::vector<double> out(12);
    BagCall call = StoreBench::call_of(&part, 1, rows);
    call.bags = 4;
    call.mode = mode;
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = 3 * sizeof(double);
    call.out_dtype = DType::float64;
    bench.store().embedding_bag(call);
    for (std::size_t i = 0; i < 4; ++i) CHECK_EQ(seen_in(&out[3 * i], 3).row, rows[i]);
  }
}

TEST(without_offsets_a_padding_row_is_an_empty_bag) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 3);
  const Rows rows{5, 1, 5, 9, 5};
  for (int resident = 0; resident < 2; ++resident) {
    const TablePart part{&table, 5};
    std::vector<double> out(15, -1.0);
    BagCall call = StoreBench::call_of(&part, 1, rows);
    call.bags = 5;
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = 3 * sizeof(double);
    call.out_dtype = DType::float64;
    bench.store().embedding_bag(call);
    for (std::size_t i = 0; i < 5; ++i) {
      if (rows[i] == 5) {
        CHECK(out[3 * i] == 0 && out[3 * i + 2] == 0);
      } else {
        CHECK_EQ(seen_in(&out[3 * i], 3).row, rows[i]);
      }
    }
  }
}

TEST(an_index_out_of_range_is_row_zero_under_warning_and_an_error_otherwise) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 1);
  const Rows rows{3, 10, -1};
  const TablePart part{&table};
  std::vector<double> out(3, -7.0);
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 3;
  call.mode = Mode::copy;
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = sizeof(double);
  call.out_dtype = DType::float64;
  CHECK_THROWS(std::out_of_range, bench.store().embedding_bag(call), "index 10 (at position 1)");
  CHECK(out == std::vector<double>(3, -7.0));
  CHECK_EQ(bench.store().stats().lookups, 0);
  call.bounds = BoundsCheck::warning;
  CHECK_EQ(bench.store().embedding_bag(call), 2);
  CHECK(out == (std::vector<double>{element(3, 0, 0), element(0, 0, 0), element(0, 0, 0)}));
  CHECK_EQ(bench.store().stats().out_of_range, 2);
  CHECK_THROWS(std::out_of_range, bench.update(table, {0, 10}, 1), "index 10");
  CHECK_EQ(bench.lookup(table, {0})[0], 0);
  CHECK_THROWS(std::out_of_range, bench.store().pin(table, integers(rows)), "index 10");
  CHECK_THROWS(std::out_of_range, bench.prefetch(table, rows), "index 10");
}

TEST(a_row_a_call_counts_as_the_simulator_does) {
  constexpr std::uint64_t kRows = 400;
  std::mt19937_64 random(6);
  std::vector<RowId> trace;
  for (int i = 0; i < 1500; ++i) {
    const RowId row = random() % kRows;
    trace.push_back(random() % 2 == 0 ? row : row % 40);
  }
  for (const std::string& policy : eviction_policy_names()) {
    for (std::uint32_t capacity : {1u, 30u, 400u}) {
      StoreBench bench(of_rows(capacity, policy));
      const Table& table = bench.add_table("t", kRows, 4);
      for (RowId row : trace) bench.lookup(table, {static_cast<std::int64_t>(row)});
      // The store's policy knows more slots, which changes nothing, and sees the same rows.
      const EvictionConfig config{.capacity = capacity, .slots = capacity};
      Simulator simulator(make_eviction_policy(policy, config), config, kRows);
      simulator.run(trace);
      const StoreStats stats = bench.store().stats();
      CHECK_EQ(stats.lookups, simulator.counts().lookups);
      CHECK_EQ(stats.hits, simulator.counts().hits);
      CHECK_EQ(stats.on_demand_fetches, simulator.counts().on_demand_fetches);
      CHECK_EQ(stats.tiers.evictions, simulator.counts().evictions);
    }
  }
}

TEST(a_row_missed_twice_in_a_call_is_fetched_once) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 100, 4);
  bench.pool().read_ops = 0;
  bench.lookup(table, {7, 7, 7, 8, 7});
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.on_demand_fetches, 2);
  CHECK_EQ(stats.hits, 3);
  CHECK_EQ(bench.pool().read_ops.load(), 1);
  CHECK_EQ(stats.call_on_demand.count(), 1);
  CHECK_EQ(stats.row_on_demand.count(), 2);
  bench.lookup(table, {7, 8});
  CHECK_EQ(bench.store().stats().call_hit.count(), 1);
  CHECK_EQ(bench.store().stats().row_hit.count(), 2);
  CHECK_EQ(bench.pool().read_ops.load(), 1);
}

TEST(a_call_may_miss_more_rows_than_a_batch_holds) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 20000, 2);
  CHECK(bench.lookup(table, rows_from(0, 20000)) == std::vector<std::uint64_t>(20000, 0));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 20000);
  // In one bag, too.
  const Rows rows = rows_from(0, 10000);
  const Rows offsets{0};
  const TablePart part{&table};
  double out[2];
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 1;
  call.offsets = integers(offsets);
  call.out = reinterpret_cast<std::byte*>(out);
  call.out_dtype = DType::float64;
  bench.store().embedding_bag(call);
  double sum = 0;
  for (std::int64_t row : rows) sum += element(row, 0, 0);
  CHECK_EQ(out[0], sum);
}

TEST(prefetched_rows_are_hits) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  CHECK_EQ(bench.prefetch(table, rows_from(0, 40)), 40);
  wait_until([&] { return bench.store().stats().resident_rows == 40; });
  CHECK_EQ(bench.prefetch(table, rows_from(0, 40)), 0);  // they are there
  bench.lookup(table, rows_from(0, 30));
  bench.lookup(table, rows_from(0, 30));
  StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.hits, 60);
  CHECK_EQ(stats.on_demand_fetches, 0);
  CHECK_EQ(stats.tiers.prefetches_issued, 40);
  CHECK_EQ(stats.prefetches_useful, 30);
  bench.lookup(table, rows_from(100, 50));
  stats = bench.store().stats();
  CHECK_EQ(stats.tiers.prefetches_useless, 10);
  CHECK_EQ(stats.prefetches_late, 0);
}

TEST(a_lookup_joins_a_prefetch_under_way) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    reading = true;
    wait_until([&] { return go.load(); });
  };
  bench.prefetch(table, {5});
  wait_until([&] { return reading.load(); });
  Threads threads;
  threads.start([&] { CHECK_EQ(bench.lookup(table, {5})[0], 0); });
  wait_until([&] { return bench.store().stats().shared_fetches == 1; });
  go = true;
  threads.join();
  const StoreStats stats = bench.store().stats();
  CHECK_EQ(stats.prefetches_late, 1);
  CHECK_EQ(stats.prefetches_useful, 0);
  CHECK_EQ(stats.on_demand_fetches, 2);
}

TEST(lookups_that_miss_the_same_row_share_one_read) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  bench.pool().read_ops = 0;
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp> ops) {
    if (ops.empty()) return;
    reading = true;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { bench.lookup(table, {5}); });
  wait_until([&] { return reading.load(); });
  for (int i = 0; i < 3; ++i) threads.start([&] { bench.lookup(table, {5}); });
  wait_until([&] { return bench.store().stats().shared_fetches == 3; });
  go = true;
  threads.join();
  CHECK_EQ(bench.pool().read_ops.load(), 1);
}

TEST(a_row_updated_while_it_is_read_is_the_new_one_for_later_lookups) {
  StoreBench bench(of_rows(50));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.lookup(table, {999});
  std::atomic<bool> reading{false};
  std::atomic<bool> go{false};
  bench.pool().before_read = [&](std::span<ReadOp>) {
    reading = true;
    wait_until([&] { return go.load(); });
  };
  Threads threads;
  threads.start([&] { CHECK_EQ(bench.lookup(table, {5})[0], 4); });
  wait_until([&] { return reading.load(); });
  bench.update(table, {5}, 4);
  CHECK_EQ(bench.lookup(table, {5})[0], 4);
  go = true;
  threads.join();
  CHECK_EQ(bench.lookup(table, {5})[0], 4);
}

TEST(pinned_rows_are_always_hits) {
  for (const std::string& policy : eviction_policy_names()) {
    StoreBench bench(of_rows(20, policy));
    const Table& table = bench.add_table("t", 500, 4);
    bench.update(table, {3}, 1);
    bench.store().pin(table, integers(rows_from(0, 10)));
    bench.store().pin(table, integers(Rows{0, 0, 1}));
    CHECK_EQ(bench.store().stats().pinned_rows, 10);
    for (int i = 0; i < 3; ++i) bench.lookup(table, rows_from(100, 400));
    bench.store().reset_stats();
    const auto versions = bench.lookup(table, rows_from(0, 10));
    CHECK_EQ(versions[3], 1);
    CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
    CHECK_THROWS(std::invalid_argument, bench.store().pin(table, integers(rows_from(50, 10))),
                 "cannot pin 10 more rows: 10 of at most 19");
    CHECK_EQ(bench.store().stats().pinned_rows, 10);
    bench.store().flush();  // a dirty one would stay readable for a while after it left
    bench.store().unpin(table, integers(rows_from(0, 500)));
    CHECK_EQ(bench.store().stats().pinned_rows, 0);
    for (int i = 0; i < 3; ++i) bench.lookup(table, rows_from(100, 400));
    bench.store().reset_stats();
    bench.lookup(table, rows_from(0, 10));
    CHECK_EQ(bench.store().stats().on_demand_fetches, 10);
  }
}

TEST(tables_are_refused_by_name_and_size) {
  StoreBench bench(of_rows(10));
  Store& store = bench.store();
  store.create_table("t", 10, 4, DType::float32);
  const auto create = [&](const std::string& name, std::uint64_t rows, std::uint32_t dim) {
    store.create_table(name, rows, dim, DType::float32);
  };
  CHECK_THROWS(std::invalid_argument, create("t", 10, 4), "table 't' exists already");
  CHECK_THROWS(std::invalid_argument, create("", 10, 4), "1 to 191 bytes");
  CHECK_THROWS(std::invalid_argument, create(std::string(192, 'x'), 10, 4), "1 to 191 bytes");
  CHECK_THROWS(std::invalid_argument, create(std::string("a\0b", 3), 10, 4), "without NUL");
  CHECK_THROWS(std::invalid_argument, create("u", 0, 4), "at least one row and dim");
  CHECK_THROWS(std::invalid_argument, create("u", 10, 0), "at least one row and dim");
  CHECK_THROWS(std::invalid_argument, create("u", (std::uint64_t{1} << 48) + 1, 4), "2**48");
  CHECK_THROWS(std::invalid_argument, create("u", 10, (1u << 20) + 1), "dim 2**20");
  CHECK_THROWS(std::invalid_argument, create("u", std::uint64_t{1} << 48, 1u << 20), "2**62 bytes");
  CHECK_EQ(store.tables().size(), 1);
  create(std::string(191, 'x'), 10, 4);
}

TEST(rows_beyond_a_table_are_not_loaded) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.add_table("t", 10, 4);
  CHECK_THROWS(std::invalid_argument, bench.load(table, 8, 3, 1),
               "table 't' has 10 rows; 3 from row 8 on do not fit");
  CHECK_THROWS(std::invalid_argument, bench.load(table, 11, 0, 1), "do not fit");
  CHECK(bench.lookup(table, rows_from(0, 10)) == std::vector<std::uint64_t>(10, 0));
}

TEST(a_closed_store_refuses_everything_and_its_file_is_free) {
  StoreBench bench(of_rows(10));
  const Table& table = bench.add_table("t", 10, 4);
  bench.update(table, {1}, 1);
  Store& store = bench.store();
  CHECK(!store.closed());
  store.close();
  store.close();
  CHECK(store.closed());
  const Rows rows{1};
  CHECK_THROWS(std::invalid_argument, bench.lookup(table, rows), "the store is closed");
  CHECK_THROWS(std::invalid_argument, bench.update(table, rows, 1), "closed");
  CHECK_THROWS(std::invalid_argument, bench.load(table, 0, 1, 1), "closed");
  CHECK_THROWS(std::invalid_argument, bench.prefetch(table, rows), "closed");
  CHECK_THROWS(std::invalid_argument, store.pin(table, integers(rows)), "closed");
  CHECK_THROWS(std::invalid_argument, store.unpin(table, integers(rows)), "closed");
  CHECK_THROWS(std::invalid_argument, store.create_table("u", 1, 1, DType::float32), "closed");
  CHECK_THROWS(std::invalid_argument, store.flush(), "closed");
  CHECK_THROWS(std::invalid_argument, store.settle(), "closed");
  CHECK_THROWS(std::invalid_argument, store.stats(), "closed");
  CHECK_THROWS(std::invalid_argument, store.reset_stats(), "closed");
  bench.reopen();
  CHECK_EQ(bench.lookup(*bench.store().tables()[0], rows)[0], 1);
}

TEST(options_that_make_no_sense_are_refused) {
  CHECK_THROWS(std::invalid_argument, Store::check(of_rows(10, "fifo")), "'fifo' is unknown");
  CHECK_THROWS(std::invalid_argument, Store::check(of_rows(0)), "fast_rows=0");
  Store::check(of_rows(1));
}

TEST(stats_tell_where_the_memory_is) {
  StoreOptions options;
  options.budget.bytes = 1 << 20;
  StoreBench bench(options);
  const Table& table = bench.add_table("t", 100000, 8);
  bench.lookup(table, rows_from(0, 3000));
  const StoreStats stats = bench.store().stats();
  const std::uint64_t budgeted = stats.vector_bytes + stats.index_bytes + stats.metadata_bytes;
  CHECK(budgeted <= 1 << 20);
  CHECK(budgeted > (1 << 20) * 9 / 10);
  CHECK_EQ(stats.resident_rows, 3000);
  CHECK(stats.vector_bytes >= stats.fast_rows * 64);
  CHECK_EQ(stats.index, "hash");
  CHECK(stats.staging_bytes > 0);
  CHECK_EQ(stats.slow.kind, "file");
  CHECK_EQ(stats.slow.path, bench.path());
  CHECK(stats.slow.bytes >= 100000 * 64);
  bench.store().reset_stats();
  CHECK_EQ(bench.store().stats().lookups, 0);
  CHECK_EQ(bench.store().stats().resident_rows, 3000);
}

TEST(updates_go_home_in_the_background) {
  StoreBench bench(of_rows(160));
  const Table& table = bench.add_table("t", 1000, 4);
  bench.update(table, rows_from(0, 100), 1);  // more than an eighth of the tier
  wait_until([&] { return bench.store().stats().dirty_rows <= 10; });
  CHECK(bench.store().stats().tiers.write_backs >= 90);
  bench.store().flush();
  CHECK_EQ(bench.store().stats().dirty_rows, 0);
}

}  // namespace
