// memory_pool.cpp: tables in memory.
#include "slow_tier/memory/memory_pool.hpp"

#include <cstring>

#include "base/error.hpp"
#include "base/numa/nodes.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

int some_node() {
  for (const NumaNodeInfo& node : numa_nodes()) {
    if (node.bytes > 0 && node.allowed) return node.id;
  }
  check::fail(__FILE__, __LINE__, "no node");
}

TableLayout layout_of(const std::string& name, std::uint64_t rows) {
  return {.name = name, .rows = rows, .dim = 16, .stride = stride_of(16, DType::float32)};
}

const std::byte* row_of(const TableLayout& table, std::uint64_t row) {
  return reinterpret_cast<const std::byte*>(table.offset + row * table.stride);
}

TEST(memory_pool_rows_are_zero_at_their_offsets) {
  MemoryPool pool({.request = {.node = some_node()}});
  CHECK(pool.in_place());
  const TableLayout one = pool.add_table(layout_of("one", 1000));
  const TableLayout two = pool.add_table(layout_of("two", 3));
  CHECK_EQ(pool.tables().size(), 2);
  CHECK_EQ(pool.tables()[0].offset, one.offset);
  std::vector<std::byte> bytes(64, std::byte{5});
  CHECK(*row_of(one, 999) == std::byte{0});
  const TableRow last{999};
  pool.update(one, {&last, 1}, bytes.data());
  CHECK_EQ(std::memcmp(row_of(one, 999), bytes.data(), 64), 0);
  CHECK(*row_of(two, 2) == std::byte{0});
  CHECK(pool.bytes() >= 1003 * 64);
  pool.sync();
  const Placement placement = pool.memory().placement;
  if (placement.unverified.empty()) {
    CHECK_EQ(placement.pages * 4096, pool.bytes());
    CHECK_EQ(placement.elsewhere, 0);
  }
}

TEST(memory_pool_describes_itself) {
  const int node = some_node();
  const MemoryPool bound({.request = {.node = node}});
  CHECK_EQ(bound.kind(), "numa");
  CHECK_EQ(bound.path(), "node " + std::to_string(node));
  CHECK_EQ(bound.engine(), "loads in place");
  const MemoryPool emulated({.request = {}, .extra_ns = 150});
  CHECK_EQ(emulated.kind(), "emulated");
  CHECK_EQ(emulated.engine(), "loads in place, +150 ns a cache line");
  const MemoryPool wide({.request = {}, .extra_ns = 12.5, .overlap = 10});
  CHECK_EQ(wide.engine(), "loads in place, +12.5 ns a cache line, 10 at a time");
}

TEST(memory_pool_refuses_a_table_beyond_memory) {
  MemoryPool bound({.request = {.node = some_node()}});
  MemoryPool anywhere({.request = {}, .extra_ns = 1});
  for (MemoryPool* pool : {&bound, &anywhere}) {
    pool->add_table(layout_of("one", 10));
    const std::uint64_t bytes = pool->bytes();
    CHECK_THROWS(MemoryShortage, pool->add_table(layout_of("two", std::uint64_t{1} << 40)),
                 ", got 70368744177664");
    CHECK_EQ(pool->tables().size(), 1);
    CHECK_EQ(pool->bytes(), bytes);
  }
}

TEST(memory_pool_on_a_missing_node_is_refused) {
  CHECK_THROWS(std::invalid_argument, MemoryPool({.request = {.node = 1000}}),
               "node 1000: does not exist");
}

}  // namespace
