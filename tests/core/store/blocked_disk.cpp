// Hits go on while another thread waits for the disk in a flush, a load, an update or a new table.
#include <atomic>
#include <functional>

#include "check.hpp"
#include "store/store_bench.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

/// Runs `call` in a thread; `block` installs the function in which the disk blocks.
void check_hits_beside(const std::function<void(ControlledPool&, std::function<void()>)>& block,
                       const std::function<void(StoreBench&, const Table&)>& call) {
  StoreOptions options;
  options.budget.rows = 64;
  StoreBench bench(options);
  const Table& table = bench.add_table("t", 1000, 4);
  const Rows hot{1, 2, 3};
  bench.update(table, {500}, 1);
  bench.store().flush();
  bench.lookup(table, hot);
  std::atomic<bool> is_blocked{false};
  std::atomic<bool> may_go_on{false};
  block(bench.pool(), [&] {
    if (is_blocked.exchange(true)) return;
    wait_until([&] { return may_go_on.load(); });
  });
  Threads threads;
  threads.start([&] { call(bench, table); });
  wait_until([&] { return is_blocked.load(); });
  for (int i = 0; i < 100; ++i) {
    CHECK_EQ(bench.lookup(table, hot), (std::vector<std::uint64_t>{0, 0, 0}));
  }
  may_go_on = true;
  threads.join();
}

void block_writes(ControlledPool& pool, std::function<void()> wait) {
  pool.before_write = std::move(wait);
}

TEST(hits_go_on_while_an_update_waits_for_the_disk) {
  check_hits_beside(block_writes,
                    [](StoreBench& bench, const Table& table) { bench.update(table, {7}, 1); });
}

TEST(hits_go_on_while_a_load_waits_for_the_disk) {
  check_hits_beside(block_writes,
                    [](StoreBench& bench, const Table& table) { bench.load(table, 10, 20, 1); });
}

TEST(hits_go_on_while_a_flush_waits_for_the_disk) {
  check_hits_beside(
      [](ControlledPool& pool, std::function<void()> wait) { pool.before_sync = std::move(wait); },
      [](StoreBench& bench, const Table&) { bench.store().flush(); });
}

TEST(hits_go_on_while_a_new_table_waits_for_the_disk) {
  check_hits_beside([](ControlledPool& pool,
                       std::function<void()> wait) { pool.before_add_table = std::move(wait); },
                    [](StoreBench& bench, const Table&) {
                      bench.store().create_table("more", 10, 4, DType::float64);
                    });
}

}  // namespace
