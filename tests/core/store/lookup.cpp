// lookup.cpp: embedding_bag against an oracle, one thread at a time.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>

#include "check.hpp"
#include "kernels/kernels.hpp"
#include "sim/row_pages.hpp"
#include "sim/simulator.hpp"
#include "store/store.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

/// Tables of all types with random bytes, and the expected results of calls.
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

  /// Calls of some tables, served as one and checked bit by bit.
  void call(Store& store, std::size_t count) {
    std::vector<OwnCall> own(count);
    std::vector<BagCall> calls;
    for (OwnCall& one : own) calls.push_back(prepare(one));
    CHECK_EQ(store.embedding_bags(calls, Accesses::recorded), 0);
    for (std::size_t i = 0; i < count; ++i) {
      const std::vector<float> wanted = expected(calls[i], own[i].which, own[i].columns);
      CHECK(std::ranges::equal(std::as_bytes(std::span(own[i].out)),
                               std::as_bytes(std::span(wanted))));
    }
  }

 private:
  /// The memory of a call.
  struct OwnCall {
    std::vector<TableSegment> parts;
    std::vector<std::size_t> which;
    std::size_t columns = 0;
    Rows indices;
    std::vector<std::int32_t> narrow;
    Rows offsets{0};
    std::vector<float> weights;
    std::vector<float> out;
  };

  BagCall prepare(OwnCall& own) {
    while (own.parts.empty()) {
      for (std::size_t i = 0; i < tables_.size(); ++i) {
        if (random_() % 2 == 0) continue;
        const auto padding = random_() % 3 == 0 ? static_cast<std::int64_t>(random_() % 5) : -1;
        own.parts.push_back({tables_[i], padding});
        own.which.push_back(i);
      }
    }
    const std::size_t bags = random_() % 40;
    for (const TableSegment& part : own.parts) {
      for (std::size_t bag = 0; bag < bags; ++bag) {
        const std::size_t length = random_() % 30 == 0 ? 1500 : random_() % 6;
        for (std::size_t i = 0; i < length; ++i) {
          own.indices.push_back(static_cast<std::int64_t>(random_() % part.table->layout.rows));
          own.weights.push_back(static_cast<float>(random_() % 8) - 3.5f);
        }
        own.offsets.push_back(static_cast<std::int64_t>(own.indices.size()));
      }
      own.columns += part.table->layout.dim;
    }
    if (random_() % 2 == 0 && bags > 0) own.offsets.pop_back();
    own.narrow.assign(own.indices.begin(), own.indices.end());
    own.out.assign(bags * own.columns, -1.0f);
    BagCall call;
    call.segments = own.parts;
    call.bags = bags;
    call.indices = random_() % 2 == 0 ? Integers{own.narrow.data(), own.narrow.size(), false}
                                      : integers(own.indices);
    call.offsets = integers(own.offsets);
    call.mode = std::array{Mode::sum, Mode::mean, Mode::max}[random_() % 3];
    if (call.mode == Mode::sum && random_() % 2 == 0) call.weights = own.weights.data();
    call.out = reinterpret_cast<std::byte*>(own.out.data());
    call.out_stride = own.columns * sizeof(float);
    return call;
  }

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
    std::size_t begin = 0;
    for (std::size_t part = 0; part < call.segments.size(); ++part) {
      const TableLayout& layout = call.segments[part].table->layout;
      const std::size_t row_bytes = layout.dim * size_of(layout.dtype);
      for (std::size_t bag = 0; bag < call.bags; ++bag) {
        std::vector<const std::byte*> rows;
        std::vector<float> weights;
        const std::size_t end = call.bag_end(part * call.bags + bag, begin);
        for (std::size_t i = std::exchange(begin, end); i < end; ++i) {
          if (call.indices[i] == call.segments[part].padding) continue;
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

TEST(lookup_is_bit_identical_to_the_oracle) {
  std::mt19937_64 random(4);
  for (std::uint64_t capacity : {4u, 50u, 400u, 1000u}) {
    StoreBench bench(of_rows(capacity, "s3fifo"));
    Oracle oracle(bench, random);
    for (std::size_t i = 0; i < 40; ++i) oracle.call(bench.store(), 1 + i % 3);
  }
}

TEST(calls_served_as_one_wait_once_and_share_samples) {
  StoreBench bench(of_rows(8));
  const TableSegment first{&bench.add_table("a", 100, 4)};
  const TableSegment second{&bench.add_table("b", 100, 4)};
  const Rows rows[] = {{1, 2}, {3, 4}, {5}};
  std::vector<std::vector<double>> out(3, std::vector<double>(8));
  std::vector<BagCall> calls;
  for (std::size_t i = 0; i < 3; ++i) {
    calls.push_back(StoreBench::call_of(i == 1 ? &second : &first, 1, rows[i]));
    calls[i].mode = Mode::copy;
    calls[i].bags = rows[i].size();
    calls[i].out = reinterpret_cast<std::byte*>(out[i].data());
    calls[i].out_stride = 4 * sizeof(double);
    calls[i].out_dtype = DType::float64;
  }
  Store& store = bench.store();
  store.record_accesses(64);
  int batches = 0;
  bench.pool().before_read = [&](std::span<ReadOp>) { ++batches; };
  store.embedding_bags(calls, Accesses::unrecorded);
  CHECK_EQ(batches, 1);
  CHECK_EQ(store.stats().calls, 1);
  CHECK_EQ(store.stats().on_demand_fetches, 5);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < rows[i].size(); ++j) {
      CHECK_EQ(seen_in(&out[i][4 * j], 4).row, rows[i][j]);
    }
  }
  CHECK(store.drain_accesses().rows.empty());
  store.embedding_bags(calls, Accesses::only_recorded);
  CHECK_EQ(store.stats().calls, 1);
  CHECK_EQ(store.stats().lookups, 5);
  const AccessSamples samples = store.drain_accesses();
  CHECK(samples.rows == (std::vector<RowId>{1, 103, 2, 104, 5}));
  CHECK(samples.lengths == (std::vector<std::uint32_t>{2, 2, 1}));
}

TEST(lookup_of_resident_tables_is_bit_identical_to_the_oracle) {
  std::mt19937_64 random(5);
  StoreOptions options;
  options.budget.bytes = 8 << 20;
  StoreBench bench(options);
  Oracle oracle(bench, random);
  for (std::size_t i = 0; i < 100; ++i) oracle.call(bench.store(), 1 + i % 3);
  CHECK_EQ(bench.store().stats().resident_tables, 4);
  CHECK_EQ(bench.store().stats().on_demand_fetches, 0);
}

TEST(lookup_without_offsets_pools_each_index) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 3);
  const Rows rows{5, 1, 5, 9};
  for (Mode mode : {Mode::copy, Mode::sum, Mode::mean, Mode::max}) {
    const TableSegment part{&table};
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

TEST(lookup_without_offsets_makes_padding_an_empty_bag) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 3);
  const Rows rows{5, 1, 5, 9, 5};
  for (int resident = 0; resident < 2; ++resident) {
    const TableSegment part{&table, 5};
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

TEST(index_out_of_range_is_row_zero_or_an_error) {
  StoreBench bench(of_rows(4));
  const Table& table = bench.add_table("t", 10, 1);
  const Rows rows{3, 10, -1};
  const TableSegment part{&table};
  std::vector<double> out(3, -7.0);
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = 3;
  call.mode = Mode::copy;
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = sizeof(double);
  call.out_dtype = DType::float64;
  CHECK_THROWS(std::out_of_range, bench.store().embedding_bag(call), "indices[1]: out of range");
  CHECK(out == std::vector<double>(3, -7.0));
  CHECK_EQ(bench.store().stats().lookups, 0);
  call.bounds = BoundsCheck::warning;
  CHECK_EQ(bench.store().embedding_bag(call), 2);
  CHECK(out == (std::vector<double>{element(3, 0, 0), element(0, 0, 0), element(0, 0, 0)}));
  CHECK_EQ(bench.store().stats().out_of_range, 2);
  CHECK_THROWS(std::out_of_range, bench.update(table, {0, 10}, 1), "got 10");
  CHECK_EQ(bench.lookup(table, {0})[0], 0);
  CHECK_THROWS(std::out_of_range, bench.store().pin(table, integers(rows)), "got 10");
  CHECK_THROWS(std::out_of_range, bench.prefetch(table, rows), "got 10");
}

TEST(lookup_counts_as_the_simulator) {
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
      // The store's policy has more slots, without effect, and the same accesses.
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

TEST(lookup_reads_the_pages_that_the_simulator_reads) {
  constexpr std::uint64_t kRows = 2000;
  std::mt19937_64 random(7);
  for (const std::uint32_t dim : {4u, 20u, 600u}) {  // 63, 21 and 1 rows per page
    StoreBench bench(of_rows(100, "s3fifo"));
    const Table& table = bench.add_table("t", kRows, dim);
    const EvictionConfig config{.capacity = 100, .slots = 100};
    Simulator simulator(
        make_eviction_policy("s3fifo", config), config, kRows, 0, 0,
        {.samples = 1, .table_starts = {0, kRows}},
        pages_in_id_order(std::vector<RowId>{0, kRows},
                          PageLayout::paged(stride_of(dim, DType::float64)).rows_per_page));
    for (int call = 0; call < 300; ++call) {
      Rows rows;
      std::vector<RowId> accesses;
      for (std::uint64_t i = random() % 40; i > 0; --i) {
        rows.push_back(static_cast<std::int64_t>(random() % (random() % 2 == 0 ? kRows : 60)));
        accesses.push_back(static_cast<RowId>(rows.back()));
      }
      bench.lookup(table, rows);
      const std::vector<std::uint32_t> lengths{static_cast<std::uint32_t>(rows.size())};
      simulator.run(accesses, lengths);
    }
    const StoreStats stats = bench.store().stats();
    CHECK_EQ(stats.calls, simulator.counts().calls);
    CHECK_EQ(stats.on_demand_fetches, simulator.counts().on_demand_fetches);
    CHECK_EQ(stats.on_demand_device_reads, simulator.counts().on_demand_device_reads);
    CHECK(dim == 600 || stats.on_demand_device_reads < stats.on_demand_fetches);
  }
}

TEST(repeated_miss_of_a_call_is_fetched_once) {
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

TEST(lookup_may_miss_more_rows_than_a_batch) {
  StoreBench bench(of_rows(100));
  const Table& table = bench.add_table("t", 20000, 2);
  CHECK(bench.lookup(table, rows_from(0, 20000)) == std::vector<std::uint64_t>(20000, 0));
  CHECK_EQ(bench.store().stats().on_demand_fetches, 20000);
  // In one bag, too.
  const Rows rows = rows_from(0, 10000);
  const Rows offsets{0};
  const TableSegment part{&table};
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

}  // namespace
