// buffers.cpp: reuse of read buffers, and copies of rows.
#include "base/buffers.hpp"

#include <random>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

TEST(returned_buffer_is_reused) {
  BufferPool pool(1 << 20);
  Region region = pool.take(5000);
  CHECK_EQ(region.size(), 8192);
  const std::byte* data = region.data();
  pool.give_back(std::move(region));
  CHECK_EQ(pool.bytes(), 8192);
  CHECK(pool.take(100).data() != data);
  CHECK(pool.take(8000).data() == data);
}

TEST(idle_buffers_stay_within_the_limit) {
  BufferPool pool(16384);
  std::vector<Region> lent;
  for (int i = 0; i < 10; ++i) lent.push_back(pool.take(4096));
  CHECK_EQ(pool.bytes(), 40960);
  for (Region& region : lent) pool.give_back(std::move(region));
  CHECK_EQ(pool.bytes(), 16384);
  Region large = pool.take(100000);
  CHECK_EQ(pool.bytes(), 16384 + 131072);
  pool.give_back(std::move(large));
  CHECK_EQ(pool.bytes(), 16384);
}

TEST(buffers_returned_last_are_kept) {
  BufferPool pool(16384);
  std::vector<Region> lent;
  for (int i = 0; i < 2; ++i) lent.push_back(pool.take(8192));
  Region small = pool.take(4096);
  const std::byte* data = small.data();
  for (Region& region : lent) pool.give_back(std::move(region));
  pool.give_back(std::move(small));
  CHECK_EQ(pool.bytes(), 8192 + 4096);
  CHECK(pool.take(4096).data() == data);
}

TEST(failed_buffer_is_not_counted) {
  BufferPool pool(16384);
  {
    faults::Fault fault(faults::Call::map, ENOMEM);
    CHECK_THROWS(MemoryShortage, pool.take(4096), "reads from the slow tier");
  }
  CHECK_EQ(pool.bytes(), 0);
}

TEST(buffer_belongs_to_one_thread_at_a_time) {
  BufferPool pool(1 << 20);
  Threads threads;
  for (int id = 1; id <= 3; ++id) {
    threads.start([&, id] {
      std::mt19937_64 random(static_cast<std::uint64_t>(id));
      for (std::size_t i = 0; i < stressed(2000); ++i) {
        Region region = pool.take(4096u << random() % 3);
        std::memset(region.data(), id, 64);
        std::this_thread::yield();
        for (int at = 0; at < 64; ++at) CHECK_EQ(static_cast<int>(region.data()[at]), id);
        pool.give_back(std::move(region));
      }
    });
  }
  threads.join();
}

TEST(arena_rows_keep_their_address_until_clear) {
  RowArena arena;
  std::mt19937_64 random(1);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<const std::byte*, std::vector<std::byte>>> rows;
    std::size_t total = 0;
    for (int i = 0; i < 3000; ++i) {
      // Now and then a row longer than a block of the arena.
      const std::size_t bytes = i % 1000 == 999 ? 3 << 20 : 1 + random() % 2000;
      std::vector<std::byte> row(bytes, static_cast<std::byte>(random()));
      rows.emplace_back(arena.push(row.data(), bytes), row);
      total += round_up(bytes, kCacheLine);
      CHECK_EQ(reinterpret_cast<std::uintptr_t>(rows.back().first) % kCacheLine, 0);
    }
    CHECK_EQ(arena.bytes(), total);
    for (const auto& [place, row] : rows) CHECK(std::memcmp(place, row.data(), row.size()) == 0);
    arena.clear();
    CHECK_EQ(arena.bytes(), 0);
  }
}

}  // namespace
