// log_delta.cpp: deltas committed, dropped, withdrawn and replayed, beside a map.
#include "slow_tier/file/log_delta.hpp"

#include <filesystem>

#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/log_bench.hpp"

namespace {

using namespace tieralloc;

TEST(deltas_and_updates_are_found_and_replayed) {
  for (std::size_t seed = 0; seed < repeated(8); ++seed) {
    LogBench bench;
    std::mt19937_64 random(seed);
    std::uint64_t version = 0;
    for (int step = 0; step < 80; ++step) {
      const auto changes = bench.random_changes(random, random() % 8 == 0 ? 3000 : 60);
      switch (random() % 5) {
        case 0:
          bench.update_random(random);
          break;
        case 1:
          bench.stage(changes);  // and dropped
          break;
        case 2: {
          const auto delta = bench.stage(changes);
          const faults::Fault fault(faults::Call::sync, EIO, 0, 1);
          CHECK_THROWS(SystemFailure, delta->commit(version + 9), "sync");
          break;
        }
        default:
          bench.apply(changes, ++version);
      }
      CHECK_EQ(bench.log->version(), version);
      if (random() % 10 == 0) bench.check();
      if (random() % 12 == 0 && bench.log->sealed() == nullptr) bench.log->seal();
      if (random() % 12 == 0) bench.reopen();
    }
    bench.check();
    bench.reopen();
    CHECK_EQ(bench.log->version(), version);
    bench.check();
  }
}

/// Rows that are staged, and those that are committed, are unseen until they are published.
TEST(delta_is_unseen_until_published) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.update_random(random);
  const auto changes = bench.random_changes(random, 2000);
  const auto delta = bench.stage(changes);
  bench.check();
  delta->commit(5);
  bench.check();
  CHECK_EQ(bench.log->version(), 0);
  delta->publish();
  bench.expect(changes);
  bench.check();
  CHECK_EQ(bench.log->version(), 5);
}

/// After a power cut anywhere in a delta: the rows and the version before it, or those after it.
TEST(log_that_ends_within_a_delta_has_none_of_it) {
  LogBench bench;
  std::mt19937_64 random(3);
  bench.update_random(random);
  bench.apply(bench.random_changes(random), 1);
  const auto former = bench.model;
  std::vector<LogBench::Change> changes;
  while (changes.size() < 2) changes = bench.random_changes(random, 3);
  bench.apply(changes, 2);
  const auto latter = bench.model;
  bench.log->seal();
  const std::uint64_t end = bench.log->sealed()->segment->end();
  std::uint64_t bytes = sizeof(FrameHeader);
  for (const LogBench::Change& change : changes) {
    bytes += LogSegment::frame_bytes(change.rows.size(), bench.tables[change.table].stride);
  }
  std::filesystem::copy_file(bench.dir / "file.log-1", bench.dir / "whole");
  for (std::uint64_t cut = end - bytes; cut <= end; cut += kCacheLine) {
    bench.log.reset();
    std::filesystem::copy_file(bench.dir / "whole", bench.dir / "file.log-1",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(bench.dir / "file.log-1", cut);
    bench.reopen(cut % 128 == 0);
    bench.model = cut == end ? latter : former;
    CHECK_EQ(bench.log->version(), cut == end ? 2 : 1);
    bench.check();
  }
}

TEST(version_is_announced_when_its_segment_ends) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.apply(bench.random_changes(random), 7);
  CHECK(bench.log->seal());
  bench.apply({}, 8);  // a delta without rows, in the next segment
  CHECK_EQ(bench.version, 0);
  bench.reopen();
  CHECK_EQ(bench.log->version(), 8);
  bench.log->cut();
  CHECK_EQ(bench.version, 7);
  CHECK_EQ(bench.log->version(), 8);
  bench.reopen();
  CHECK_EQ(bench.log->version(), 8);
  bench.log->seal();
  bench.log->cut();
  CHECK_EQ(bench.version, 8);
  bench.reopen();
  CHECK_EQ(bench.log->version(), 8);
}

/// A delta of more bytes than a segment has lies in a segment of its own size.
TEST(delta_larger_than_a_segment_is_whole) {
  LogBench bench;
  std::mt19937_64 random(1);
  bench.update_random(random);
  std::vector<LogBench::Change> changes;
  for (std::uint64_t part = 0; part < 13; ++part) {
    LogBench::Change change{.table = 3, .rows = {}, .values = {}};
    for (std::uint64_t i = 0; i < 1000; ++i) change.rows.push_back({(i * 7 + part) % 500});
    change.values = LogBench::dense_values(bench.tables[3], 1000, part);
    changes.push_back(std::move(change));
  }
  bench.apply(changes, 1);
  CHECK(bench.log->bytes() > kLogSegmentBytes);
  bench.check();
  bench.reopen();
  bench.check();
  CHECK_EQ(bench.log->version(), 1);
}

TEST(failed_delta_leaves_the_log_unchanged) {
  for (const faults::Call call : {faults::Call::write, faults::Call::sync, faults::Call::allocate,
                                  faults::Call::map, faults::Call::reserve}) {
    LogBench bench;
    std::mt19937_64 random(2);
    std::uint64_t version = 0;
    for (std::size_t after = 0; after < repeated(200); ++after) {
      if (after % 10 == 0 && bench.log->sealed() == nullptr) bench.log->seal();
      const auto changes = bench.random_changes(random);
      bool is_done = false;
      std::size_t struck = 0;
      {
        faults::Fault fault(call, ENOSPC, after % 20, 1 + after % 3);
        try {
          const auto delta = bench.stage(changes);
          delta->commit(version + 1);
          delta->publish();
          is_done = true;
        } catch (const SystemFailure&) {
        } catch (const std::bad_alloc&) {
        } catch (const MemoryShortage&) {
        }
        struck = fault.struck();
      }
      CHECK(is_done || struck > 0);
      version += is_done;
      if (is_done) bench.expect(changes);
      CHECK_EQ(bench.log->version(), version);
      if (after % 30 == 0) bench.check();
      if (after % 40 == 0) bench.log->sync();
    }
    bench.check();
    bench.log->sync();
    bench.reopen();
    CHECK_EQ(bench.log->version(), version);
    bench.check();
  }
}

}  // namespace
