// nodes.cpp: nodes of synthetic sysfs trees and of this machine.
#include "base/numa/nodes.hpp"

#include <filesystem>
#include <fstream>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

/// Nodes 0 (with processors), 2 (memory only), 3 (processors only); 1 is offline.
class Tree {
 public:
  Tree() {
    write("online", "0,2-3");
    write("possible", "0-3");
    write("node0/cpulist", "0-3,8");
    write("node0/meminfo", meminfo(0, 2097152, 1048576, 65536));
    write("node2/cpulist", "");
    write("node2/meminfo", meminfo(2, 1048576, 32768, 0));
    write("node3/cpulist", "4-7");
    write("node3/meminfo", meminfo(3, 0, 0, 0));
  }
  std::string path() const { return dir_ / "node"; }

 private:
  static std::string meminfo(int node, long total, long free, long files) {
    const std::string begin = "Node " + std::to_string(node) + " ";
    return begin + "MemTotal:       " + std::to_string(total) + " kB\n" + begin +
           "MemFree:        " + std::to_string(free) + " kB\n" + begin +
           "Active(file):   " + std::to_string(files) + " kB\n" + begin +
           "Inactive(file): " + std::to_string(files) + " kB\n";
  }
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path file = path() + "/" + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }

  TempDir dir_;
};

TEST(nodes_are_the_online_ones) {
  const Tree tree;
  const auto nodes = numa_nodes(tree.path());
  CHECK_EQ(nodes.size(), 3);
  CHECK_EQ(nodes[0].id, 0);
  CHECK_EQ(to_list(nodes[0].cpus), "0-3,8");
  CHECK_EQ(nodes[0].bytes, std::uint64_t{2} << 30);
  // Free, half of the files', less a thirty-second of all.
  CHECK_EQ(nodes[0].available, (std::uint64_t{1024} + 64 - 64) << 20);
  CHECK_EQ(nodes[1].id, 2);
  CHECK(nodes[1].cpus.empty());
  CHECK_EQ(nodes[1].available, 0);  // at the reserve
}

TEST(unusable_node_is_refused_with_usable_ones) {
  const Tree tree;
  CHECK_EQ(usable_node(0, tree.path()).id, 0);
  CHECK_THROWS(std::invalid_argument, usable_node(7, tree.path()),
               "node 7: does not exist; expected one with memory for this process: 0 (2048 MiB)");
  CHECK_THROWS(std::invalid_argument, usable_node(1, tree.path()), "node 1: is offline; expected");
  CHECK_THROWS(std::invalid_argument, usable_node(3, tree.path()),
               "node 3: has no memory; expected");
  CHECK_THROWS(std::invalid_argument, usable_node(-1, tree.path()), "node -1: does not exist");
}

TEST(kernel_without_nodes_has_one_node) {
  const TempDir empty;
  const auto nodes = numa_nodes(empty / "none");
  CHECK_EQ(nodes.size(), 1);
  CHECK_EQ(nodes[0].id, 0);
  CHECK_EQ(nodes[0].bytes, total_memory());
  CHECK(nodes[0].allowed && !nodes[0].cpus.empty());
}

TEST(this_machine_has_a_usable_node) {
  bool any = false;
  for (const NumaNodeInfo& node : numa_nodes()) {
    CHECK(node.available <= node.bytes);
    if (node.bytes == 0 || !node.allowed) continue;
    CHECK_EQ(usable_node(node.id).id, node.id);
    any = true;
    CHECK_THROWS(MemoryShortage, check_node_memory(node.id, node.bytes + 1, "test"),
                 ", got " + std::to_string(node.bytes + 1));
    check_node_memory(node.id, 1, "test");
  }
  CHECK(any);
}

TEST(lists_round_trip) {
  for (const char* text : {"", "0", "0-1", "3,5-9,11", "0-3,8,10-11"}) {
    CHECK_EQ(to_list(parse_list(text)), text);
  }
  CHECK(parse_list("0-2") == (std::vector<int>{0, 1, 2}));
}

}  // namespace
