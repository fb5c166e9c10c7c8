// changed_arrays.cpp: calls whose indices, offsets and weights another thread overwrites. Any
// values or an error may result, but no access out of bounds (asan), no endless loop, and no damage
// to the store.
#include <array>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>

#include "base/counters.hpp"
#include "check.hpp"
#include "store/store_bench.hpp"

namespace {

using namespace tieralloc;

constexpr std::int64_t kRows = 500;
constexpr std::uint32_t kDim = 3;
constexpr std::size_t kTables = 2;
constexpr std::size_t kBags = 200;  // per table
constexpr std::size_t kMaxBag = 9;
constexpr std::array<std::int64_t, 9> kHostile{-1,
                                               kRows,
                                               std::numeric_limits<std::int64_t>::min(),
                                               std::numeric_limits<std::int64_t>::max(),
                                               std::int64_t{1} << 32,
                                               (std::int64_t{1} << 32) - 1,
                                               -5,
                                               7,
                                               1500};

/// Arrays of a valid call, in exact allocations, which `change` overwrites and restores.
template <typename Int>
class Arrays {
 public:
  explicit Arrays(std::uint64_t seed) : random_(seed) {
    for (std::size_t bag = 0; bag < kTables * kBags; ++bag) {
      offsets_.push_back(static_cast<Int>(indices_.size()));
      for (std::size_t n = random_() % kMaxBag; n > 0; --n) {
        indices_.push_back(static_cast<Int>(random_() % kRows));
      }
    }
    offsets_.push_back(static_cast<Int>(indices_.size()));
    indices = copy(indices_);
    offsets = copy(offsets_);
    weights = std::make_unique<double[]>(indices_.size());
  }

  Integers all_indices() const { return {indices.get(), indices_.size(), sizeof(Int) == 8}; }
  Integers all_offsets() const { return {offsets.get(), offsets_.size(), sizeof(Int) == 8}; }

  /// Overwrites an element for about as long as a call takes.
  void change() {
    const bool is_index = random_() % 2 == 0;
    const std::vector<Int>& original = is_index ? indices_ : offsets_;
    Int* array = (is_index ? indices : offsets).get();
    const std::size_t i = random_() % original.size();
    __atomic_store_n(array + i, static_cast<Int>(kHostile[random_() % kHostile.size()]),
                     __ATOMIC_RELAXED);
    spin();
    __atomic_store_n(array + i, original[i], __ATOMIC_RELAXED);
    spin();
  }

  std::unique_ptr<Int[]> indices;
  std::unique_ptr<Int[]> offsets;
  std::unique_ptr<double[]> weights;

 private:
  void spin() {
    const std::uint64_t until = now_ns() + random_() % 4000;
    while (now_ns() < until) {
    }
  }

  static std::unique_ptr<Int[]> copy(const std::vector<Int>& values) {
    auto array = std::make_unique<Int[]>(values.size());
    std::copy(values.begin(), values.end(), array.get());
    return array;
  }

  std::mt19937_64 random_;
  std::vector<Int> indices_;
  std::vector<Int> offsets_;
};

/// True if the call succeeded, false if it refused the changed arrays.
template <typename Call>
bool survives(Call call) {
  try {
    call();
    return true;
  } catch (const std::out_of_range&) {
    return false;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

template <typename Int>
void call_with_changing_arrays(StoreBench& bench, std::size_t rounds) {
#ifdef __SANITIZE_THREAD__
  SKIP("the caller's memory is a data race here by intention");
#endif
  std::vector<TableSegment> parts;
  for (std::size_t i = 0; i < kTables; ++i) {
    parts.push_back({&bench.add_table("t" + std::to_string(i), kRows, kDim)});
  }
  const Table& table = *parts[0].table;
  Arrays<Int> arrays(7);
  const Integers indices = arrays.all_indices();
  std::vector<double> out(indices.size * kTables * kDim);
  const std::vector<double> values(indices.size * kDim);
  BagCall call;
  call.segments = parts;
  call.bags = kBags;
  call.indices = indices;
  call.offsets = arrays.all_offsets();
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = kTables * kDim * sizeof(double);
  call.out_dtype = DType::float64;

  Threads threads;
  threads.start([&] {
    while (!threads.stopped()) arrays.change();
  });
  threads.start([&] {
    for (std::size_t round = 0; round < stressed(rounds); ++round) {
      call.bounds = round % 2 == 0 ? BoundsCheck::fatal : BoundsCheck::warning;
      call.weights = round % 4 < 2 ? arrays.weights.get() : nullptr;
      parts[0].padding = round % 3 == 0 ? 7 : -1;
      call.offsets.size = kTables * kBags + round % 2;
      survives([&] { bench.store().embedding_bag(call); });
      survives([&] { bench.store().prefetch(call); });
      BagCall copy = call;
      copy.segments = {parts.data() + 1, 1};
      copy.bags = indices.size;
      copy.offsets = {};
      copy.weights = nullptr;
      copy.mode = Mode::copy;
      survives([&] { bench.store().embedding_bag(copy); });
      survives([&] {
        bench.store().update(table, indices, reinterpret_cast<const std::byte*>(values.data()));
      });
      const Integers few{indices.data, 20, indices.wide};
      if (survives([&] { bench.store().pin(table, few); })) {
        survives([&] { bench.store().unpin(table, few); });
      }
    }
    threads.stop();
  });
  threads.join();

  // The second table was only read: its rows are unchanged.
  const Rows all = rows_from(0, kRows);
  for (std::uint64_t version : bench.lookup(*parts[1].table, all)) CHECK_EQ(version, 0);
  bench.store().close();
}

TEST(changing_arrays_of_64_bits_never_break_a_store_of_a_file) {
  StoreBench bench(of_rows(300));
  call_with_changing_arrays<std::int64_t>(bench, 300);
}

TEST(changing_arrays_of_32_bits_never_break_a_store_of_a_file) {
  StoreBench bench(of_rows(2000, "s3fifo"));
  call_with_changing_arrays<std::int32_t>(bench, 1500);
}

TEST(changing_arrays_never_break_a_store_in_memory) {
  StoreBench bench(of_rows(300), MemoryPoolOptions{});
  call_with_changing_arrays<std::int64_t>(bench, 1500);
}

/// The first rows of the call are fetched before its last offsets are read.
TEST(offsets_changed_during_a_fetch_are_refused) {
  constexpr std::int64_t kMany = 3 * Fetcher::kMaxBatchRows;
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", kMany, kDim);
  const Rows rows = rows_from(0, kMany);
  const Rows bags = rows_from(0, kMany + 1);
  const TableSegment part{&table};
  std::vector<double> out(kMany * kDim);
  for (std::int64_t hostile : kHostile) {
    for (bool descends : {false, true}) {
      Rows offsets = bags;
      BagCall call = StoreBench::call_of(&part, 1, rows);
      call.bags = kMany;
      call.offsets = integers(offsets);
      call.out = reinterpret_cast<std::byte*>(out.data());
      call.out_stride = kDim * sizeof(double);
      call.out_dtype = DType::float64;
      bench.pool().before_read = [&](auto) {
        offsets[kMany - 5] = hostile;
        if (descends) offsets[kMany - 4] = std::numeric_limits<std::int64_t>::min();
      };
      CHECK_THROWS(std::invalid_argument, bench.store().embedding_bag(call), "changed");
      bench.pool().before_read = {};
    }
  }
  CHECK_EQ(bench.lookup(table, {1, kMany - 1})[1], 0);
}

/// An index is checked when it is used: out of range it is row 0.
TEST(index_changed_during_a_fetch_is_row_zero) {
  constexpr std::int64_t kMany = 3 * Fetcher::kMaxBatchRows;
  StoreBench bench(of_rows(16));
  const Table& table = bench.add_table("t", kMany, kDim);
  Rows rows = rows_from(0, kMany);
  const TableSegment part{&table};
  std::vector<double> out(kMany * kDim);
  BagCall call = StoreBench::call_of(&part, 1, rows);
  call.bags = kMany;
  call.mode = Mode::copy;
  call.out = reinterpret_cast<std::byte*>(out.data());
  call.out_stride = kDim * sizeof(double);
  call.out_dtype = DType::float64;
  bench.pool().before_read = [&](auto) { rows[kMany - 1] = kMany; };
  bench.store().embedding_bag(call);
  bench.pool().before_read = {};
  CHECK_EQ(seen_in(&out[(kMany - 2) * kDim], kDim).row, kMany - 2);
  CHECK_EQ(seen_in(&out[(kMany - 1) * kDim], kDim).row, 0);
}

}  // namespace
