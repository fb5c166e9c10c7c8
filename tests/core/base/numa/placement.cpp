// placement.cpp: regions bound, touched and verified.
#include "base/numa/placement.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "base/numa/nodes.hpp"
#include "base/types.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

int some_node() {
  for (const NumaNodeInfo& node : numa_nodes()) {
    if (node.bytes > 0 && node.allowed) return node.id;
  }
  check::fail(__FILE__, __LINE__, "no node");
}

std::size_t touched_pages(const Region& region) {
  std::vector<unsigned char> there(region.size() / kPage);
  CHECK_EQ(mincore(region.data(), region.size(), there.data()), 0);
  std::size_t pages = 0;
  for (unsigned char page : there) pages += page & 1;
  return pages;
}

TEST(region_in_a_scope_is_touched_on_its_node) {
  for (const bool prefer : {false, true}) {
    NodeScope scope({.node = some_node(), .prefer = prefer});
    for (std::size_t pages : {1, 17, 1500}) {
      const Region region(pages * kPage, "test");
      CHECK_EQ(touched_pages(region), pages);
    }
    if (!scope.placement().unverified.empty()) SKIP(scope.placement().unverified);
    CHECK_EQ(scope.placement().pages, 1 + 17 + 1500);
    CHECK_EQ(scope.placement().elsewhere, 0);
    CHECK(scope.placement().refused.empty());
  }
}

TEST(region_outside_a_scope_is_not_placed) {
  {
    NodeScope ended({.node = some_node()});
  }
  CHECK(NodeScope::current() == nullptr);
  NodeScope scope({.node = some_node()});
  std::thread([&] {
    CHECK(NodeScope::current() == nullptr);
    CHECK_EQ(touched_pages(Region(8 * kPage, "test")), 0);
  }).join();
  CHECK_EQ(scope.placement().pages, 0);
}

TEST(innermost_scope_places_regions) {
  NodeScope outer({.node = some_node()});
  {
    NodeScope inner(NodeRequest{});
    const Region region(4 * kPage, "test");
    CHECK_EQ(touched_pages(region), 4);
    CHECK_EQ(inner.placement().pages, 0);  // it asks for no place
  }
  CHECK(NodeScope::current() == &outer);
  CHECK_EQ(outer.placement().pages, 0);
}

TEST(refused_binding_is_an_error_or_reported) {
  constexpr int kNowhere = 1023;  // mbind itself refuses it
  NodeScope strict({.node = kNowhere});
  CHECK_THROWS(SystemFailure, Region(kPage, "test"), "refuses to bind memory to node 1023 (mbind)");
  NodeScope lenient({.node = kNowhere, .strict = false});
  const Region region(3 * kPage, "test");
  CHECK_EQ(touched_pages(region), 3);
  CHECK(lenient.placement().refused.find("mbind") != std::string::npos);
  if (lenient.placement().unverified.empty()) CHECK_EQ(lenient.placement().elsewhere, 3);
}

TEST(region_beyond_a_node_is_refused_before_touching) {
  const int node = some_node();
  NodeScope scope({.node = node});
  std::uint64_t bytes = 0;
  for (const NumaNodeInfo& info : numa_nodes()) {
    if (info.id == node) bytes = info.bytes;
  }
  const std::uint64_t before = usable_node(node).available;
  // Without this check, touching would fail only after it has used all memory.
  CHECK_THROWS(MemoryShortage, check_node_memory(node, bytes * 2, "rows"), "bytes available of");
  const std::uint64_t after = usable_node(node).available;
  CHECK(after + (std::uint64_t{1} << 30) > before);
}

}  // namespace
