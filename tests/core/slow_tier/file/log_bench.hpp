// log_bench.hpp: a redo log in a temporary directory, beside a map of the rows that it is to have.
#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/file/log_delta.hpp"
#include "slow_tier/file/redo_log.hpp"
#include "slow_tier/random_order.hpp"
#include "support.hpp"

struct LogBench {
  using Bytes = std::vector<std::byte>;

  static std::vector<tieralloc::TableLayout> some_tables() {
    std::vector<tieralloc::TableLayout> tables;
    std::mt19937_64 random(4);
    std::uint64_t offset = 2 << 20;
    for (const std::uint32_t dim : {5u, 48u, 600u, 1500u}) {
      tieralloc::TableLayout table{.name = "t" + std::to_string(dim), .rows = 500, .dim = dim};
      table.stride = tieralloc::stride_of(dim, table.dtype);
      table.offset = offset;
      table.pages = tieralloc::PageLayout::paged(table.stride);
      if (dim == 48 || dim == 1500) arrange_randomly(table, random);
      offset = table.pages_end();
      tables.push_back(table);
    }
    return tables;
  }

  static Bytes dense_values(const tieralloc::TableLayout& table, std::size_t rows,
                            std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Bytes values(rows * table.row_bytes());
    for (std::byte& byte : values) byte = static_cast<std::byte>(random());
    return values;
  }

  TempDir dir;
  std::vector<tieralloc::TableLayout> tables = some_tables();
  std::uint64_t first = 0, last = 0, version = 0;  ///< as announced
  int announcements = 0;
  bool refuses = false;
  std::mutex appending;
  std::unique_ptr<tieralloc::RedoLog> log = make();
  std::map<std::uint64_t, Bytes> model;  ///< by offset

  std::unique_ptr<tieralloc::RedoLog> make() {
    return std::make_unique<tieralloc::RedoLog>(
        tieralloc::RedoLog::Options{dir / "file.log-", 77, 0600},
        [this](std::uint64_t new_first, std::uint64_t new_last, std::uint64_t new_version) {
          if (refuses) throw tieralloc::SystemFailure(EIO, "refused", "file");
          first = new_first;
          last = new_last;
          if (new_version != 0) version = new_version;
          ++announcements;
        });
  }
  void reopen(bool writable = true) {
    log.reset();
    log = make();
    log->replay(first, last, tables, writable, version);
  }
  void update(std::uint32_t table, const std::vector<tieralloc::TableRow>& rows,
              std::uint64_t seed) {
    const tieralloc::TableLayout& layout = tables[table];
    const Bytes values = dense_values(layout, rows.size(), seed);
    log->update(table, layout, rows, values.data());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Bytes padded(layout.stride);
      std::memcpy(padded.data(), values.data() + i * layout.row_bytes(), layout.row_bytes());
      model[layout.address(rows[i]).offset()] = padded;
    }
  }
  void update_random(std::mt19937_64& random) {
    std::vector<tieralloc::TableRow> rows(1 + random() % 40);
    for (tieralloc::TableRow& row : rows) row.value = random() % 500;
    update(static_cast<std::uint32_t>(random() % 4), rows, random());
  }
  /// Values of rows of a table; empty: zeros.
  struct Change {
    std::uint32_t table = 0;
    std::vector<tieralloc::TableRow> rows;
    Bytes values;
  };
  std::vector<Change> random_changes(std::mt19937_64& random, std::size_t max_rows = 60) const {
    std::vector<Change> changes(random() % 4);
    for (Change& change : changes) {
      change.table = static_cast<std::uint32_t>(random() % 4);
      change.rows.resize(1 + random() % max_rows);
      for (tieralloc::TableRow& row : change.rows) row.value = random() % 500;
      if (random() % 4 == 0) continue;
      change.values = dense_values(tables[change.table], change.rows.size(), random());
    }
    return changes;
  }
  std::unique_ptr<tieralloc::LogDelta> stage(const std::vector<Change>& changes) {
    std::vector<tieralloc::DeltaPart> parts;
    for (const Change& change : changes) {
      parts.push_back({&tables[change.table], change.rows.size()});
    }
    auto delta = std::make_unique<tieralloc::LogDelta>(
        *log, std::unique_lock(appending), parts, [this](const tieralloc::TableLayout& table) {
          return static_cast<std::uint32_t>(&table - tables.data());
        });
    for (const Change& change : changes) {
      delta->stage(tables[change.table], change.rows,
                   change.values.empty() ? nullptr : change.values.data());
    }
    return delta;
  }
  void expect(const std::vector<Change>& changes) {
    for (const Change& change : changes) {
      const tieralloc::TableLayout& layout = tables[change.table];
      for (std::size_t i = 0; i < change.rows.size(); ++i) {
        Bytes padded(layout.stride);
        if (!change.values.empty()) {
          std::memcpy(padded.data(), change.values.data() + i * layout.row_bytes(),
                      layout.row_bytes());
        }
        model[layout.address(change.rows[i]).offset()] = padded;
      }
    }
  }
  void apply(const std::vector<Change>& changes, std::uint64_t to) {
    const auto delta = stage(changes);
    delta->commit(to);
    delta->publish();
    expect(changes);
  }

  void check() {
    for (const tieralloc::TableLayout& table : tables) {
      Bytes value(table.stride);
      for (std::uint64_t row = 0; row < table.rows; ++row) {
        const std::uint64_t offset = table.address({row}).offset();
        const auto expected = model.find(offset);
        CHECK_EQ(log->find(offset, value), expected != model.end());
        if (expected != model.end()) CHECK(value == expected->second);
      }
    }
    CHECK_EQ(log->any(), !model.empty());
  }
  std::size_t num_files() const {
    const std::filesystem::directory_iterator files(dir / "");
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }
};
