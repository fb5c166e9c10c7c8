// fetch_batch.cpp: rows merged into reads.
#include "slow_tier/fetch_batch.hpp"

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/controlled_pool.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

constexpr std::uint64_t kBlock = 4096;

/// A pool without checksums, patterned from its data's begin on, and a list of its reads.
struct Bench {
  TempDir dir;
  std::unique_ptr<ControlledPool> pool;
  BufferPool buffers{1 << 20};
  std::uint64_t data = 0;
  std::uint64_t bytes = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> reads;  ///< offset, length

  explicit Bench(std::uint64_t size = 2 << 20) : bytes(size) {
    {
      const auto file = FilePool::create(dir / "file", {});
      data = file->add_table({.name = "t",
                              .rows = size / kBlock,
                              .dim = 1000,
                              .dtype = DType::float32,
                              .stride = 4032})
                 .offset;
    }
    std::vector<std::byte> pattern(size);
    for (std::size_t i = 0; i < size; ++i) pattern[i] = pattern_at(data + i);
    const OpenFile file(dir / "file", O_WRONLY);
    CHECK_EQ(pwrite(file.fd(), pattern.data(), size, static_cast<off_t>(data)),
             static_cast<ssize_t>(size));
    pool = std::make_unique<ControlledPool>(FilePool::open(dir / "file", {}));
    pool->before_read = [this](std::span<ReadOp> ops) {
      for (const ReadOp& op : ops) reads.emplace_back(op.offset, op.length);
    };
  }
};

void ignore(std::uint32_t, std::uint32_t) {}

std::uint32_t add(FetchBatch& batch, std::uint64_t offset, std::uint32_t length) {
  return batch.add(PageLayout::dense(length).address(offset, 0), false);
}

struct Wanted {
  std::uint64_t offset;
  std::uint32_t length;
};

/// Reads the rows as one batch and checks their bytes.
void read_rows(Bench& bench, const std::vector<Wanted>& rows) {
  bench.reads.clear();
  FetchBatch batch(*bench.pool, bench.buffers, rows.size());
  for (const Wanted& row : rows) add(batch, bench.data + row.offset, row.length);
  batch.read(ignore);
  for (std::uint32_t i = 0; i < rows.size(); ++i) {
    CHECK_EQ(batch.wait(i), 0);
    CHECK(is_pattern(batch.bytes(i), bench.data + rows[i].offset, rows[i].length));
    CHECK(batch.started_ns() > 0 && batch.ended_ns(i) >= batch.started_ns());
  }
}

TEST(rows_of_one_block_are_read_once) {
  Bench bench;
  read_rows(bench, {{3 * kBlock + 64, 64}, {3 * kBlock, 64}, {3 * kBlock + 4032, 64}});
  CHECK_EQ(bench.reads.size(), 1);
  CHECK_EQ(bench.reads[0].first, bench.data + 3 * kBlock);
  CHECK_EQ(bench.reads[0].second, kBlock);
}

TEST(adjacent_blocks_are_read_together) {
  Bench bench;
  read_rows(bench, {{5 * kBlock, 64}, {4 * kBlock, 64}, {6 * kBlock + 64, 64}, {9 * kBlock, 64}});
  CHECK_EQ(bench.reads.size(), 2);
  CHECK_EQ(bench.reads[0].second, 3 * kBlock);
  CHECK_EQ(bench.reads[1].second, kBlock);
}

TEST(row_across_a_block_boundary_is_complete) {
  Bench bench;
  read_rows(bench, {{kBlock - 64, 128}});
  CHECK_EQ(bench.reads.size(), 1);
  CHECK_EQ(bench.reads[0].second, 2 * kBlock);
}

TEST(repeated_page_longer_than_64_kib_is_read_once) {
  Bench bench;
  read_rows(bench, {{kBlock, 200 << 10}, {kBlock, 200 << 10}});
  CHECK_EQ(bench.reads.size(), 1);
}

TEST(read_is_at_most_64_kib_unless_its_row_is_longer) {
  Bench bench;
  std::vector<Wanted> rows;
  for (std::uint64_t at = 0; at < bench.bytes / 2; at += kBlock) rows.push_back({at, 64});
  read_rows(bench, rows);
  CHECK_EQ(bench.reads.size(), bench.bytes / 2 / kMaxReadBytes);
  read_rows(bench, {{kBlock, 200 << 10}});
  CHECK_EQ(bench.reads.size(), 1);
  CHECK_EQ(bench.reads[0].second, 200 << 10);
}

TEST(random_rows_read_the_minimum_of_blocks) {
  Bench bench;
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const std::uint32_t length = 64u << random() % 8;
    const std::uint64_t range = trial % 3 == 0 ? bench.bytes : bench.bytes / 16;
    const bool aligned =
        trial % 2 == 0;  // no row lies across a block's end then, if it fits in one
    std::vector<Wanted> rows;
    std::set<std::uint64_t> blocks;
    for (std::uint64_t i = 0; i < 1 + random() % 300; ++i) {
      const std::uint64_t unit = aligned ? length : 64;
      const std::uint64_t offset = random() % ((range - length) / unit) * unit;
      rows.push_back({offset, length});
      for (std::uint64_t at = offset / kBlock; at * kBlock < offset + length; ++at) {
        blocks.insert(at);
      }
    }
    read_rows(bench, rows);
    std::map<std::uint64_t, int> times;
    for (const auto& [offset, size] : bench.reads) {
      CHECK(size <= kMaxReadBytes);
      for (std::uint64_t at = offset; at < offset + size; at += kBlock) {
        ++times[(at - bench.data) / kBlock];
      }
    }
    CHECK_EQ(times.size(), blocks.size());
    std::size_t twice = 0;
    for (const auto& [block, count] : times) {
      CHECK(blocks.contains(block));
      CHECK(count <= 2);
      twice += count == 2 ? 1 : 0;
    }
    // Only where a read has reached its full length in the middle of a row.
    CHECK(twice <= (length / kBlock + 1) * (bench.reads.size() - 1));
    if (aligned && length <= kBlock) CHECK_EQ(twice, 0);
  }
}

TEST(batch_serves_waiters_before_and_during_reads) {
  Bench bench;
  for (std::size_t round = 0; round < stressed(30); ++round) {
    auto batch = std::make_shared<FetchBatch>(*bench.pool, bench.buffers, 40);
    for (std::uint64_t i = 0; i < 40; ++i) {
      add(*batch, bench.data + i * 3 * kBlock, 64);
    }
    Threads threads;
    for (std::uint32_t waiter = 0; waiter < 3; ++waiter) {
      threads.start([&, waiter] {
        for (std::uint32_t i = waiter; i < 40; i += 3) {
          CHECK_EQ(batch->wait(i), 0);
          CHECK(is_pattern(batch->bytes(i), bench.data + i * 3 * kBlock, 64));
        }
      });
    }
    threads.start([&] { batch->read(ignore); });
    threads.join();
  }
}

TEST(refused_batch_fails_every_row) {
  Bench bench;
  bench.pool->before_read = [](std::span<ReadOp>) { throw SystemFailure(ENOTCONN, "gone", "p"); };
  FetchBatch batch(*bench.pool, bench.buffers, 3);
  for (std::uint64_t i = 0; i < 3; ++i) {
    add(batch, bench.data + i * 10 * kBlock, 64);
  }
  Threads threads;
  threads.start([&] { CHECK_EQ(batch.wait(2), -ENOTCONN); });
  batch.read(ignore);
  threads.join();
  for (std::uint32_t i = 0; i < 3; ++i) CHECK_EQ(batch.wait(i), -ENOTCONN);
}

TEST(batch_without_memory_fails_every_row) {
  Bench bench;
  for (faults::Call call : {faults::Call::map, faults::Call::allocate}) {
    for (std::size_t after = 0;; ++after) {
      FetchBatch batch(*bench.pool, bench.buffers, 2);
      add(batch, bench.data, 64);
      // Sizes of their own, so that no buffer of an earlier round will do.
      add(batch, bench.data + 64, static_cast<std::uint32_t>(8192 << after % 4));
      std::size_t struck;
      {
        faults::Fault fault(call, ENOMEM, after, 1);
        batch.read(ignore);
        struck = fault.struck();
      }
      if (struck == 0) break;
      CHECK_EQ(batch.wait(0), -ENOMEM);
      CHECK_EQ(batch.wait(1), -ENOMEM);
    }
  }
}

TEST(batch_returns_its_buffer) {
  Bench bench;
  read_rows(bench, {{0, 64}, {kBlock * 20, 64}});
  const std::size_t kept = bench.buffers.bytes();
  for (int i = 0; i < 10; ++i) read_rows(bench, {{0, 64}, {kBlock * 20, 64}});
  CHECK_EQ(bench.buffers.bytes(), kept);
}

/// A pool with checksums, and patterned rows.
struct PagedBench {
  TempDir dir;
  std::unique_ptr<FilePool> file = FilePool::create(dir / "file", {});
  TableLayout table =
      file->add_table({.name = "t", .rows = 200, .dim = 16, .dtype = DType::float32, .stride = 64});
  BufferPool buffers{1 << 20};
  std::vector<std::byte> values = std::vector<std::byte>(200 * 64);

  PagedBench() {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = pattern_at(i);
    file->load(table, {0}, 200, values.data());
  }
  void damage(std::uint64_t offset) {
    const OpenFile raw(dir / "file", O_RDWR);
    std::byte byte;
    CHECK_EQ(pread(raw.fd(), &byte, 1, static_cast<off_t>(offset)), 1);
    byte ^= std::byte{4};
    CHECK_EQ(pwrite(raw.fd(), &byte, 1, static_cast<off_t>(offset)), 1);
  }
};

TEST(damaged_page_fails_its_rows_alone) {
  PagedBench bench;
  bench.damage(bench.table.offset + 4096 + 100);  // rows 63 to 125
  FetchBatch batch(*bench.file, bench.buffers, 200);
  for (std::uint64_t row = 0; row < 200; ++row) {
    batch.add(bench.table.address({row}), false);
  }
  std::uint32_t reported = 0;
  batch.read([&](std::uint32_t first, std::uint32_t last) {
    CHECK_EQ(first, reported);
    reported = last;
  });
  CHECK_EQ(reported, 200);
  for (std::uint32_t row = 0; row < 200; ++row) {
    CHECK_EQ(batch.wait(row), row >= 63 && row < 126 ? -EBADMSG : 0);
    if (row < 63 || row >= 126) CHECK(is_pattern(batch.bytes(row), row * 64, 64));
  }
  CHECK(bench.file->updates().page_errors > 0);
}

TEST(rows_of_a_page_have_one_leader) {
  PagedBench bench;
  std::mt19937_64 random(2);
  FetchBatch batch(*bench.file, bench.buffers, 90);
  std::vector<RowAddress> rows;
  for (int i = 0; i < 90; ++i) {
    rows.push_back(bench.table.address({random() % 200}));
    batch.add(rows.back(), false);
  }
  batch.read(ignore);
  std::set<std::uint64_t> pages;
  for (std::uint32_t i = 0; i < 90; ++i) {
    CHECK_EQ(batch.wait(i), 0);
    CHECK_EQ(batch.is_leader(i), pages.insert(rows[i].page).second);
    CHECK(is_pattern(batch.bytes(i),
                     (rows[i].page - bench.table.offset) / 4096 * 63 * 64 + rows[i].at, 64));
  }
}

/// A page that was being written when it was read: the second read of it counts.
TEST(page_that_fails_once_is_read_again) {
  PagedBench bench;
  ControlledPool pool(FilePool::create(bench.dir / "other", {}));
  const TableLayout table =
      pool.add_table({.name = "t", .rows = 200, .dim = 16, .dtype = DType::float32, .stride = 64});
  pool.load(table, {0}, 200, bench.values.data());
  FetchBatch batch(pool, bench.buffers, 3);
  batch.add(table.address({70}), false);
  batch.add(table.address({3}), false);
  batch.add(table.address({71}), false);
  pool.after_read = [](std::span<ReadOp> ops) {
    for (ReadOp& op : ops) op.buffer[200] ^= std::byte{1};
  };
  batch.read(ignore);
  CHECK_EQ(batch.wait(0), 0);
  CHECK_EQ(batch.wait(1), 0);
  CHECK(is_pattern(batch.bytes(0), 70 * 64, 64));
  CHECK(is_pattern(batch.bytes(1), 3 * 64, 64));
  CHECK_EQ(batch.wait(2), 0);
  CHECK(is_pattern(batch.bytes(2), 71 * 64, 64));
}

}  // namespace
