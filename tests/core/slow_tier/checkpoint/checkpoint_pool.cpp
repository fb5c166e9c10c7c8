// checkpoint_pool.cpp: rows at any byte of several files, and files that others change.
#include "slow_tier/checkpoint/checkpoint_pool.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <vector>

#include "base/buffers.hpp"
#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/checkpoint/joined_pool.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "store/store.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::size_t kFileBytes = 100'003;

/// Three patterned files, and tables of bytes in them.
struct Bench {
  TempDir dir;
  std::vector<CheckpointSource> files;

  Bench() {
    for (const char* name : {"a", "b", "c"}) {
      make_patterned_file(dir / name, kFileBytes);
      struct stat status;
      CHECK_EQ(stat((dir / name).c_str(), &status), 0);
      const std::int64_t modified =
          std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
      files.push_back({dir / name, {status.st_ino, kFileBytes, modified}});
    }
  }

  std::unique_ptr<CheckpointPool> open(const std::vector<CheckpointTable>& tables,
                                       CheckpointOptions options = {}) const {
    return std::make_unique<CheckpointPool>(files, tables, options);
  }
};

CheckpointTable table_of(const std::string& name, std::uint32_t row_bytes, std::uint32_t stride,
                         std::vector<CheckpointPiece> pieces) {
  return {name, row_bytes, DType::bytes, stride, std::move(pieces)};
}

/// Up to the last byte of each file: `rows` rows of 37 bytes end with it.
std::vector<CheckpointTable> sample_tables() {
  return {table_of("dense", 37, 0,
                   {{0, kFileBytes - 37 * 2700, 2700}, {2, 11, 1000}, {1, kFileBytes - 37, 1}}),
          table_of("gaps", 5000, 5001, {{1, 3, 19}}), table_of("shared", 100, 37, {}),
          table_of("overlap", 74, 74, {{2, 11, 500}})};
}

std::vector<CheckpointTable> readable_tables() {
  std::vector<CheckpointTable> tables = sample_tables();
  tables.erase(tables.begin() + 2);
  return tables;
}

/// Whether bytes are those of a row in its file.
bool is_row(const TableLayout& table, std::uint64_t row, const std::byte* bytes) {
  const NumberedOffset at = NumberedOffset::of(table.address({row}).page);
  return is_pattern(bytes, at.offset, table.row_bytes());
}

void check_reads(CheckpointPool& pool, std::uint64_t seed) {
  BufferPool buffers(1 << 20);
  std::mt19937_64 random(seed);
  const std::vector<TableLayout> tables = pool.tables();
  for (int round = 0; round < 20; ++round) {
    const std::size_t count = 1 + random() % 300;
    FetchBatch batch(pool, buffers, count, round % 2 * 20'000);
    std::vector<std::pair<std::size_t, std::uint64_t>> rows;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t table = random() % tables.size();
      const std::uint64_t last = tables[table].rows - 1;
      const std::uint64_t row = i < 2 ? last * i : random() % (last + 1);
      rows.emplace_back(table, row);
      batch.add(tables[table].address({row}), false);
    }
    batch.read([](std::uint32_t, std::uint32_t) {});
    for (std::uint32_t i = 0; i < count; ++i) {
      CHECK_EQ(batch.wait(i), 0);
      CHECK(is_row(tables[rows[i].first], rows[i].second, batch.bytes(i)));
    }
  }
}

TEST(checkpoint_rows_at_any_byte_are_read) {
  const Bench bench;
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    for (const bool direct : {false, true}) {
      for (const unsigned depth : {2u, 64u}) {
        const auto pool = bench.open(readable_tables(), {"name", engine, direct, depth});
        CHECK_EQ(pool->engine().find(engine), 0);
        CHECK_EQ(pool->bytes(), 3 * kFileBytes);
        check_reads(*pool, depth);
      }
    }
  }
}

TEST(checkpoint_file_shorter_than_a_block_is_read) {
  Bench bench;
  make_patterned_file(bench.dir / "short", 45);
  struct stat status;
  CHECK_EQ(stat((bench.dir / "short").c_str(), &status), 0);
  const std::int64_t modified =
      std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  bench.files = {{bench.dir / "short", {status.st_ino, 45, modified}}};
  const auto pool = bench.open({table_of("short", 4, 0, {{0, 1, 11}})});
  check_reads(*pool, 1);
}

TEST(checkpoint_pieces_follow_each_other) {
  const Bench bench;
  const auto pool = bench.open(readable_tables());
  const TableLayout dense = pool->tables()[0];
  CHECK_EQ(dense.rows, 3701);
  CHECK_EQ(pool->place_of(dense.address({2699}).page).offset, kFileBytes - 37);
  CHECK_EQ(pool->place_of(dense.address({2700}).page).path, bench.dir / "c");
  CHECK_EQ(pool->place_of(dense.address({2700}).page).offset, 11);
  CHECK_EQ(pool->place_of(dense.address({3700}).page).path, bench.dir / "b");
  CHECK_EQ(pool->describe(dense.address({3699}).page), "table 'dense', row 3699");
  CHECK_EQ(pool->describe(pool->tables()[1].address({18}).page), "table 'gaps', row 18");
}

TEST(checkpoint_rows_outside_of_a_file_are_refused) {
  const Bench bench;
  const auto refusal = [&](const CheckpointTable& table, const char* part) {
    CHECK_THROWS(std::invalid_argument, bench.open({table}), part);
  };
  refusal(sample_tables()[2], "expected 1 to");
  refusal(table_of("t", 37, 0, {{0, kFileBytes - 36, 1}}), "expected rows within the 100003 bytes");
  refusal(table_of("t", 37, 0, {{0, 0, 2703}}), "expected rows within");
  refusal(table_of("t", 37, 0, {{0, kFileBytes + 1, 1}}), "expected rows within");
  refusal(table_of("t", 37, 0, {{0, 0, ~std::uint64_t{0}}}), "expected rows within");
  refusal(table_of("t", 37, 0, {{0, ~std::uint64_t{0}, 1}}), "expected rows within");
  refusal(table_of("t", 37, 0, {{3, 0, 1}}), "in one of 3 files");
  refusal(table_of("t", 37, 0, {{0, 0, 0}}), "expected rows in one of 3 files, got 0");
  refusal(table_of("t", 37, 36, {{0, 0, 1}}), "expected a stride of at least 37");
  refusal(table_of("t", 0, 0, {{0, 0, 1}}), "expected a dim of 1 to");
  refusal(table_of("t", kMaxDim + 1, 0, {{0, 0, 1}}), "expected a dim of 1 to");
}

TEST(checkpoint_refuses_writes) {
  const Bench bench;
  const auto pool = bench.open(readable_tables());
  const TableLayout table = pool->tables()[0];
  const std::byte value{};
  CHECK_THROWS(SystemFailure, pool->add_table(table), "create_table: a checkpoint is only read");
  CHECK_THROWS(SystemFailure, pool->remove_table(table), "drop_table");
  CHECK_THROWS(SystemFailure, pool->prepare_growth(table, 5000), "resize");
  CHECK_THROWS(SystemFailure, (pool->grow_table(table, table), 0), "resize");
  CHECK_THROWS(SystemFailure, (pool->update(table, {}, &value), 0), "update");
  CHECK_THROWS(SystemFailure, (pool->load(table, {0}, 0, &value), 0), "load");
}

TEST(checkpoint_file_that_changes_fails_alone) {
  using Change = void (*)(const std::string&);
  const std::pair<Change, std::int32_t> changes[] = {
      {[](const std::string& path) { CHECK_EQ(truncate(path.c_str(), 5000), 0); }, -ENODATA},
      {[](const std::string& path) { CHECK_EQ(truncate(path.c_str(), 200'000), 0); }, -ESTALE},
      {[](const std::string& path) { std::filesystem::remove(path); }, -ESTALE},
      {[](const std::string& path) {
         make_patterned_file(path + ".new", kFileBytes);
         std::filesystem::rename(path + ".new", path);
       },
       -ESTALE},
      {[](const std::string& path) {
         struct timespec times[2] = {{0, UTIME_OMIT}, {1000, 7}};  // as a write does
         CHECK_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
       },
       -ESTALE}};
  for (const auto& [change, code] : changes) {
    const Bench bench;
    const auto pool = bench.open(readable_tables());
    change(bench.dir / "c");
    const TableLayout dense = pool->tables()[0];
    BufferPool buffers(1 << 20);
    FetchBatch batch(*pool, buffers, 400);
    for (std::uint64_t i = 0; i < 400; ++i) {
      batch.add(dense.address({(i * 1097) % dense.rows}), false);
    }
    batch.read([](std::uint32_t, std::uint32_t) {});
    for (std::uint32_t i = 0; i < 400; ++i) {
      const std::uint64_t row = i * std::uint64_t{1097} % dense.rows;
      const bool is_changed = row >= 2700 && row < 3700;
      CHECK_EQ(batch.wait(i), is_changed ? code : 0);
      if (!is_changed) CHECK(is_row(dense, row, batch.bytes(i)));
    }
    CHECK_THROWS(SystemFailure, bench.open(readable_tables()), "");
  }
}

/// The bytes of rows.
std::vector<std::byte> look_up(Store& store, const Table& table,
                               const std::vector<std::int64_t>& rows) {
  const std::size_t bytes = table.row_bytes();
  std::vector<std::byte> out(rows.size() * bytes);
  const TableSegment segment{&table};
  BagCall call;
  call.segments = {&segment, 1};
  call.indices = {rows.data(), rows.size(), true};
  call.mode = Mode::copy;
  call.bags = rows.size();
  call.out = out.data();
  call.out_stride = bytes;
  call.out_dtype = DType::bytes;
  store.embedding_bag(call);
  return out;
}

/// Looks rows up, and compares them with the file.
void check_lookups(Store& store, const Table& table, const std::vector<std::int64_t>& rows) {
  const std::size_t bytes = table.row_bytes();
  const std::vector<std::byte> out = look_up(store, table, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(is_row(table.layout, static_cast<std::uint64_t>(rows[i]), out.data() + i * bytes));
  }
}

TEST(store_of_a_checkpoint_serves_threads) {
  const Bench bench;
  for (const std::string& policy : {std::string("s3fifo"), std::string("lru")}) {
    for (const FastBudget& budget : {FastBudget{.rows = 60}, FastBudget{.bytes = 20 << 20}}) {
      Store store(bench.open(readable_tables()), {.budget = budget, .policy = policy});
      Threads threads;
      for (unsigned seed = 0; seed < 4; ++seed) {
        threads.start([&, seed] {
          std::mt19937_64 random(seed);
          for (std::size_t round = 0; round < stressed(30); ++round) {
            const auto tables = store.tables();
            const Table& table = *tables[random() % tables.size()];
            std::vector<std::int64_t> rows(1 + random() % 200);
            for (std::int64_t& row : rows) {
              row = static_cast<std::int64_t>(random() % table.num_rows());
            }
            if (round % 7 == 0) rows.assign(5000, rows.front());
            check_lookups(store, table, rows);
          }
        });
      }
      threads.join();
      CHECK_EQ(store.is_resident(*store.tables()[0]), budget.bytes > 0);
      CHECK(store.stats().hits > 0);
    }
  }
}

TEST(lookup_in_a_changed_checkpoint_names_file_and_row) {
  const Bench bench;
  Store store(bench.open(readable_tables()), {.budget = {.rows = 60}});
  const auto tables = store.tables();
  check_lookups(store, *tables[0], {2701, 0});
  CHECK_EQ(truncate((bench.dir / "c").c_str(), 40), 0);
  try {
    check_lookups(store, *tables[0], {3000});
    check::fail(__FILE__, __LINE__, "no error");
  } catch (const SystemFailure& failure) {
    CHECK_EQ(failure.path, bench.dir / "c");
    CHECK_EQ(failure.code, EIO);
    CHECK_EQ(std::string(failure.what()),
             "cannot read table 'dense', row 3000 at offset 11111 of the slow tier: the file was "
             "cut short");
  }
  check_lookups(store, *tables[0], {2701, 0, 5, 3700});  // resident, or of other files
  check_lookups(store, *tables[1], {4, 18});
}

/// Rows of versions: all bytes of a row have its version.
TEST(overlay_serves_new_values_while_others_read) {
  const Bench bench;
  CheckpointOptions options;
  options.overlay = bench.dir / "overlay";
  const std::vector<CheckpointTable> tables{readable_tables()[0], readable_tables()[1]};
  constexpr std::uint64_t kRows = 300;
  std::vector<std::byte> last(kRows);
  for (int opening = 0; opening < 2; ++opening) {
    Store store(bench.open(tables, options), {.budget = {.rows = 100}});
    const Table& table = *store.tables()[0];
    const std::size_t bytes = table.row_bytes();
    std::atomic<bool> is_done{false};
    Threads threads;
    for (unsigned seed = 0; seed < 3; ++seed) {
      threads.start([&, seed] {
        std::mt19937_64 random(seed);
        while (!is_done) {
          std::vector<std::int64_t> rows(40);
          for (auto& row : rows) row = static_cast<std::int64_t>(random() % (2 * kRows));
          const std::vector<std::byte> out = look_up(store, table, rows);
          for (std::size_t i = 0; i < rows.size(); ++i) {
            const std::byte* row = out.data() + i * bytes;
            const bool is_whole = std::all_of(row, row + bytes, [&](auto b) { return b == *row; });
            CHECK(is_whole || is_row(table.layout, static_cast<std::uint64_t>(rows[i]), row));
            if (static_cast<std::uint64_t>(rows[i]) >= kRows) CHECK(!is_whole);
          }
        }
      });
    }
    std::mt19937_64 random(7);
    for (std::size_t round = 0; round < stressed(200); ++round) {
      std::vector<std::int64_t> rows(1 + random() % 20);
      std::vector<std::byte> values;
      for (auto& row : rows) {
        row = static_cast<std::int64_t>(random() % kRows);
        last[static_cast<std::size_t>(row)] = static_cast<std::byte>(1 + round % 200);
        values.insert(values.end(), bytes, static_cast<std::byte>(1 + round % 200));
      }
      store.update(table, {rows.data(), rows.size(), true}, values.data());
    }
    is_done = true;
    threads.join();
    store.flush();
    CHECK(store.stats().dirty_rows > 0 && store.stats().log_bytes > 0);
    store.close();
  }
  Store store(bench.open(tables, options), {.budget = {.rows = 100}});
  const Table& table = *store.tables()[0];
  for (std::uint64_t row = 0; row < kRows; ++row) {
    const auto out = look_up(store, table, {static_cast<std::int64_t>(row)});
    if (last[row] == std::byte{0}) {
      CHECK(is_row(table.layout, row, out.data()));
    } else {
      CHECK(out == std::vector<std::byte>(table.row_bytes(), last[row]));
    }
  }
  CHECK_THROWS(SystemFailure, bench.open(tables, options), "overlay is open in another store");
}

TEST(overlay_refuses_tables_that_share_bytes) {
  const Bench bench;
  CheckpointOptions options;
  options.overlay = bench.dir / "overlay";
  CHECK_THROWS(std::invalid_argument, bench.open(readable_tables(), options),
               "overlay: tables 'dense' and 'overlap' share bytes");
}

TEST(joined_rows_have_their_parts_side_by_side) {
  const Bench bench;
  const std::vector<CheckpointTable> parts{
      table_of("weights", 37, 0, {{0, 5, 1000}, {2, 11, 500}}),
      table_of("scales", 3, 4, {{1, kFileBytes - 1500 * 4, 1500}}),
      table_of("plain", 8, 0, {{1, 1, 100}})};
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    Store store(
        std::make_unique<JoinedPool>(bench.open(parts, {"name", engine}),
                                     std::vector<JoinedTable>{{"joined", {0, 1, 0}}, {"p", {2}}}),
        {.budget = {.rows = 50}});
    const auto expected = bench.open(parts)->tables();
    const Table& table = *store.tables()[0];
    CHECK_EQ(table.row_bytes(), 77);
    Threads threads;
    for (unsigned seed = 0; seed < 3; ++seed) {
      threads.start([&, seed] {
        std::mt19937_64 random(seed);
        for (std::size_t round = 0; round < stressed(20); ++round) {
          std::vector<std::int64_t> rows(1 + random() % 300);
          for (auto& row : rows) row = static_cast<std::int64_t>(random() % 1500);
          const auto out = look_up(store, table, rows);
          for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto row = static_cast<std::uint64_t>(rows[i]);
            CHECK(is_row(expected[0], row, out.data() + i * 77));
            CHECK(is_row(expected[1], row, out.data() + i * 77 + 37));
            CHECK(is_row(expected[0], row, out.data() + i * 77 + 40));
          }
        }
      });
    }
    threads.join();
    const auto plain = look_up(store, *store.tables()[1], {99, 0});
    CHECK(is_row(expected[2], 99, plain.data()) && is_row(expected[2], 0, plain.data() + 8));
  }
  const auto join = [&](const JoinedTable& table) {
    return std::make_unique<JoinedPool>(bench.open(parts), std::vector<JoinedTable>{table});
  };
  CHECK_THROWS(std::invalid_argument, join({"t", {0, 2}}), "expected parts of 1500 rows, got 100");
  CHECK_THROWS(std::invalid_argument, join({"t", {}}), "at least one part");
  CHECK_THROWS(std::invalid_argument, join({"t", {3}}), "no part 3");
}

}  // namespace
