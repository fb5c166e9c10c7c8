// redo_log.cpp: updates found, replayed, sealed and cut, beside a map.
#include "slow_tier/file/redo_log.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include "base/error.hpp"
#include "base/limits.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/log_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using Bytes = LogBench::Bytes;

TEST(updates_are_found_and_replayed) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    LogBench bench;
    std::mt19937_64 random(seed);
    for (int step = 0; step < 60; ++step) {
      bench.update_random(random);
      if (random() % 8 == 0) bench.log->sync();
      if (random() % 20 == 0) {
        bench.reopen();
        bench.check();
      }
    }
    bench.check();
    bench.reopen();
    bench.check();
    CHECK(bench.log->unsynced_bytes() == 0);
  }
}

TEST(sealed_and_active_rows_are_found_until_cut) {
  LogBench bench;
  std::mt19937_64 random(1);
  CHECK(!bench.log->seal());
  for (int i = 0; i < 10; ++i) bench.update_random(random);
  CHECK_EQ(bench.first, 1);
  CHECK(bench.log->seal());
  CHECK(bench.log->sealed() != nullptr);
  const auto sealed_model = bench.model;
  for (int i = 0; i < 10; ++i) bench.update_random(random);
  CHECK_EQ(bench.first, 1);
  CHECK_EQ(bench.last, 2);
  bench.check();
  bench.reopen();
  bench.check();
  CHECK(bench.log->sealed() != nullptr);
  CHECK_EQ(bench.num_files(), 2);
  bench.log->cut();
  CHECK_EQ(bench.first, 2);
  CHECK_EQ(bench.num_files(), 1);
  CHECK(bench.log->sealed() == nullptr);
  bench.reopen();
  for (const auto& [offset, value] : sealed_model) {
    Bytes found(value.size());
    if (bench.log->find(offset, found)) CHECK(found == bench.model[offset]);
  }
  CHECK(bench.log->seal());
  bench.log->cut();
  CHECK_EQ(bench.first, 0);
  CHECK_EQ(bench.last, 2);
  CHECK_EQ(bench.num_files(), 0);
  CHECK(!bench.log->any());
  bench.model.clear();
  bench.check();
  bench.update_random(random);
  CHECK_EQ(bench.first, 3);  // a number is used once
  bench.check();
}

TEST(memory_of_an_ended_segment_is_used_again) {
  LogBench bench;
  std::mt19937_64 random(1);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) bench.update_random(random);
    bench.check();
    const std::uint64_t bytes = bench.log->bytes();
    CHECK(bench.log->seal());
    bench.log->cut();
    CHECK_EQ(bench.log->bytes(), bytes);
    bench.model.clear();
    bench.check();
    faults::Fault fault(faults::Call::map, ENOMEM);
    bench.update_random(random);
    bench.check();
  }
  CHECK(bench.log->seal());
  bench.log->cut();
  bench.log->release_spare();
  CHECK_EQ(bench.log->bytes(), 0);
}

TEST(missing_segment_is_an_error_with_its_name) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.update_random(random);
  bench.log->seal();
  bench.update_random(random);
  for (const char* name : {"file.log-1", "file.log-2"}) {
    std::filesystem::rename(bench.dir / name, bench.dir / "elsewhere");
    CHECK_THROWS(SystemFailure, bench.reopen(),
                 "cannot open the redo log, which has updates of the table file");
    try {
      bench.reopen();
    } catch (const SystemFailure& failure) {
      CHECK_EQ(failure.path, bench.dir / name);
      CHECK_EQ(failure.code, ENOENT);
    }
    std::filesystem::rename(bench.dir / "elsewhere", bench.dir / name);
  }
  bench.reopen();
  bench.check();
}

/// A segment is durable before the next one exists: it cannot end early.
TEST(sealed_segment_that_ends_early_is_an_error) {
  LogBench bench;
  std::mt19937_64 random(1);
  for (int i = 0; i < 3; ++i) bench.update_random(random);
  bench.log->seal();
  const std::uint64_t end = bench.log->sealed()->segment->end();
  bench.update_random(random);
  std::filesystem::resize_file(bench.dir / "file.log-1", end - 64);
  CHECK_THROWS(std::invalid_argument, bench.reopen(), "file.log-1: the redo log ends early");
}

TEST(rows_of_no_table_are_an_error) {
  LogBench bench;
  bench.update(3, {{499}}, 1);
  bench.tables[3].rows = 400;
  CHECK_THROWS(std::invalid_argument, bench.reopen(), "has no rows of these tables");
  bench.tables.resize(2);
  CHECK_THROWS(std::invalid_argument, bench.reopen(), "has no rows of these tables");
}

TEST(failed_update_leaves_the_log_unchanged) {
  for (const faults::Call call : {faults::Call::write, faults::Call::sync, faults::Call::allocate,
                                  faults::Call::map, faults::Call::reserve}) {
    LogBench bench;
    std::mt19937_64 random(1);
    for (std::size_t after = 0; after < 300; ++after) {
      if (after % 10 == 0 && bench.log->sealed() == nullptr) bench.log->seal();
      std::size_t struck = 0;
      const std::vector<TableRow> rows{{after % 500}, {3}, {after % 500}};
      const TableLayout& table = bench.tables[1];
      const Bytes values = LogBench::dense_values(table, rows.size(), after);
      bool is_done = false;
      {
        faults::Fault fault(call, ENOSPC, after % 40, 1);
        try {
          bench.log->update(1, table, rows, values.data());
          is_done = true;
        } catch (const SystemFailure&) {
        } catch (const std::bad_alloc&) {
        } catch (const MemoryShortage&) {
        }
        struck = fault.struck();
      }
      CHECK(is_done || struck > 0);
      if (is_done) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
          Bytes padded(table.stride);
          std::memcpy(padded.data(), values.data() + i * table.row_bytes(), table.row_bytes());
          bench.model[table.address(rows[i]).offset()] = padded;
        }
      }
      if (after % 30 == 0) bench.check();
    }
    bench.check();
    bench.reopen();
    bench.check();
  }
}

TEST(refused_announcement_leaves_no_segment) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.refuses = true;
  CHECK_THROWS(SystemFailure,
               bench.log->update(0, bench.tables[0], std::vector<TableRow>{{1}},
                                 LogBench::dense_values(bench.tables[0], 1, 1).data()),
               "refused");
  CHECK_EQ(bench.num_files(), 0);
  CHECK(!bench.log->any());
  bench.refuses = false;
  bench.update_random(random);
  bench.log->seal();
  bench.refuses = true;
  CHECK_THROWS(SystemFailure, bench.log->cut(), "refused");
  bench.check();
  bench.refuses = false;
  bench.reopen();
  bench.check();
}

TEST(failed_sync_of_the_log_is_reported_until_it_works) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.update_random(random);
  bench.log->seal();
  bench.update_random(random);
  {
    faults::Fault fault(faults::Call::sync, EIO);
    for (int i = 0; i < 3; ++i) CHECK_THROWS(SystemFailure, bench.log->sync(), "cannot sync");
    CHECK(bench.log->unsynced_bytes() > 0);
  }
  bench.log->sync();
  CHECK(bench.log->unsynced_bytes() == 0);
}

PageFooter some_intent(std::uint64_t page, std::uint32_t generation) {
  return {page / kPage, generation, static_cast<std::uint32_t>(page ^ generation)};
}

TEST(intents_are_replayed_and_later_ones_count) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.update_random(random);
  bench.log->seal();
  bench.log->add_intents(std::vector<PageFooter>{some_intent(1 << 21, 4), some_intent(1 << 22, 4)});
  bench.log->add_intents(std::vector<PageFooter>{some_intent(1 << 22, 5), some_intent(1 << 23, 9)});
  bench.reopen();
  // It can receive no further rows: a torn page is mended with the rows that it has.
  const auto sealed = bench.log->sealed();
  CHECK(sealed != nullptr);
  CHECK_EQ(sealed->intent_of(1 << 21)->generation, 4);
  CHECK_EQ(sealed->intent_of(1 << 22)->generation, 5);
  CHECK_EQ(sealed->intent_of(1 << 23)->checksum, some_intent(1 << 23, 9).checksum);
  CHECK(!sealed->intent_of(1 << 24));
  bench.check();
  bench.update_random(random);
  CHECK_EQ(bench.first, 1);
  CHECK_EQ(bench.last, 2);
  bench.check();
}

/// Intents are added beside updates, of which one starts the next segment.
TEST(torn_intents_are_no_lost_updates) {
  LogBench bench;
  std::mt19937_64 random(1);
  for (int i = 0; i < 3; ++i) bench.update_random(random);
  bench.log->seal();
  const std::uint64_t rows_end = bench.log->sealed()->segment->end();
  bench.log->add_intents(std::vector<PageFooter>{some_intent(1 << 21, 4)});
  bench.update_random(random);
  bench.log->sync();
  for (const std::uint64_t cut : {rows_end, rows_end + 10, rows_end + 64}) {
    bench.log.reset();
    std::filesystem::resize_file(bench.dir / "file.log-1", cut);
    bench.reopen(false);
    bench.check();
  }
}

TEST(log_is_found_in_beside_updates) {
  LogBench bench;
  Threads threads;
  std::array<std::atomic<std::uint64_t>, 100> newest{};
  const TableLayout& table = bench.tables[1];
  const auto word_of = [](const Bytes& value, std::size_t i) {
    std::uint64_t word;
    std::memcpy(&word, value.data() + 8 * i, 8);
    return word;
  };
  for (int id = 0; id < 2; ++id) {
    threads.start([&, id] {
      std::mt19937_64 random(static_cast<std::uint64_t>(id));
      Bytes value(table.stride);
      while (!threads.stopped()) {
        const std::uint64_t row = random() % 100;
        const std::uint64_t at_least = newest[row];
        if (!bench.log->find(table.address({row}).offset(), value)) {
          CHECK_EQ(at_least, 0);
          continue;
        }
        for (std::size_t i = 1; i < table.row_bytes() / 8; ++i) {
          CHECK_EQ(word_of(value, i), word_of(value, 0));
        }
        CHECK(word_of(value, 0) >= at_least);
      }
    });
  }
  threads.start([&] {
    while (!threads.stopped()) bench.log->sync();
  });
  threads.start([&] {
    for (std::uint64_t step = 1; step < stressed(1000); ++step) {
      std::vector<TableRow> rows;
      for (std::uint64_t row = step % 7; row < 100; row += 7) rows.push_back({row});
      const std::vector<std::uint64_t> values(rows.size() * table.row_bytes() / 8, step);
      bench.log->update(1, table, rows, reinterpret_cast<const std::byte*>(values.data()));
      for (const TableRow& row : rows) newest[row.value] = step;
      if (step == 300) bench.log->seal();
    }
    threads.stop();
  });
  threads.join();
}

}  // namespace
