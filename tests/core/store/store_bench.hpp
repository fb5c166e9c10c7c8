// store_bench.hpp: a store in a temporary directory, short forms of its calls, and rows with their
// number and version in every element.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "slow_tier/controlled_pool.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/memory/memory_pool.hpp"
#include "store/store.hpp"
#include "support.hpp"

using Rows = std::vector<std::int64_t>;

inline tieralloc::Integers integers(const Rows& values) {
  return {values.data(), values.size(), true};
}

/// Element `j` of a row: exact in a double, as are sums of some hundred of them.
inline double element(std::int64_t row, std::uint64_t version, std::size_t j) {
  return std::ldexp(static_cast<double>(row), 20) + static_cast<double>(version) +
         std::ldexp(static_cast<double>(j % 1024), -10);
}

/// The number and the version of a row; all its elements must agree.
struct Seen {
  std::int64_t row;
  std::uint64_t version;
};
inline Seen seen_in(const double* values, std::size_t dim) {
  const auto row = static_cast<std::int64_t>(std::floor(std::ldexp(values[0], -20)));
  const double version = values[0] - std::ldexp(static_cast<double>(row), 20);
  for (std::size_t j = 0; j < dim; ++j) {
    CHECK_EQ(values[j], element(row, static_cast<std::uint64_t>(version), j));
  }
  return {row, static_cast<std::uint64_t>(version)};
}

class StoreBench {
 public:
  explicit StoreBench(const tieralloc::StoreOptions& options,
                      const tieralloc::FilePoolOptions& file = {})
      : options_(options), file_(file) {
    use(tieralloc::FilePool::create(path(), file));
  }

  /// A store whose slow tier is memory.
  StoreBench(const tieralloc::StoreOptions& options, const tieralloc::MemoryPoolOptions& memory)
      : options_(options) {
    use(std::make_unique<tieralloc::MemoryPool>(memory));
  }

  std::string path() const { return dir_ / "file"; }
  tieralloc::Store& store() { return *store_; }
  ControlledPool& pool() { return *pool_; }
  void destroy() { store_.reset(); }

  /// Destroys the store and opens its file in another one.
  void reopen() {
    store_.reset();
    use(tieralloc::FilePool::open(path(), file_));
  }

  /// A table of float64 rows of version 0.
  const tieralloc::Table& add_table(const std::string& name, std::uint64_t rows, std::uint32_t dim,
                                    tieralloc::Residency residency = {}) {
    const tieralloc::Table& table =
        store_->create_table(name, rows, dim, tieralloc::DType::float64, residency);
    load(table, 0, rows, 0);
    return table;
  }

  void load(const tieralloc::Table& table, std::uint64_t first, std::uint64_t rows,
            std::uint64_t version) {
    std::vector<double> values;
    for (std::uint64_t row = first; row < first + rows; ++row) append(table, row, version, values);
    store_->load(table, first, rows, reinterpret_cast<const std::byte*>(values.data()));
  }

  void update(const tieralloc::Table& table, const Rows& rows, std::uint64_t version) {
    std::vector<double> values;
    for (std::int64_t row : rows) append(table, static_cast<std::uint64_t>(row), version, values);
    store_->update(table, integers(rows), reinterpret_cast<const std::byte*>(values.data()));
  }

  /// Looks up rows, checks that each is whole and has its number, and returns their versions.
  std::vector<std::uint64_t> lookup(const tieralloc::Table& table, const Rows& rows) {
    const std::size_t dim = table.layout.dim;
    std::vector<double> out(rows.size() * dim);
    const tieralloc::TableSegment part{&table};
    tieralloc::BagCall call = call_of(&part, 1, rows);
    call.mode = tieralloc::Mode::copy;
    call.bags = rows.size();
    call.out = reinterpret_cast<std::byte*>(out.data());
    call.out_stride = dim * sizeof(double);
    call.out_dtype = tieralloc::DType::float64;
    store_->embedding_bag(call);
    std::vector<std::uint64_t> versions;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Seen seen = seen_in(out.data() + i * dim, dim);
      CHECK_EQ(seen.row, rows[i]);
      versions.push_back(seen.version);
    }
    return versions;
  }

  std::uint64_t prefetch(const tieralloc::Table& table, const Rows& rows) {
    const tieralloc::TableSegment part{&table};
    tieralloc::BagCall call = call_of(&part, 1, rows);
    call.bags = rows.size();
    return store_->prefetch(call);
  }

  static tieralloc::BagCall call_of(const tieralloc::TableSegment* parts, std::size_t count,
                                    const Rows& rows) {
    tieralloc::BagCall call;
    call.segments = {parts, count};
    call.indices = integers(rows);
    return call;
  }

 private:
  void use(std::unique_ptr<tieralloc::SlowPool> behind) {
    auto pool = std::make_unique<ControlledPool>(std::move(behind));
    pool_ = pool.get();
    store_ = std::make_unique<tieralloc::Store>(std::move(pool), options_);
  }

  static void append(const tieralloc::Table& table, std::uint64_t row, std::uint64_t version,
                     std::vector<double>& values) {
    for (std::size_t j = 0; j < table.layout.dim; ++j) {
      values.push_back(element(static_cast<std::int64_t>(row), version, j));
    }
  }

  TempDir dir_;
  tieralloc::StoreOptions options_;
  tieralloc::FilePoolOptions file_;
  ControlledPool* pool_ = nullptr;
  std::unique_ptr<tieralloc::Store> store_;
};

inline tieralloc::StoreOptions of_rows(std::uint64_t rows, const std::string& policy = "lru") {
  tieralloc::StoreOptions options;
  options.budget.rows = rows;
  options.policy = policy;
  return options;
}

inline Rows rows_from(std::int64_t first, std::int64_t count) {
  Rows rows;
  for (std::int64_t row = first; row < first + count; ++row) rows.push_back(row);
  return rows;
}
