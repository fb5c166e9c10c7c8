// nodes.hpp: the NUMA nodes of this machine, from sysfs and this process's cpuset.
//
// Each call reads the current state. Any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tieralloc {

inline constexpr char kNodeDirectory[] = "/sys/devices/system/node";

struct NumaNodeInfo {
  int id = 0;
  std::vector<int> cpus;  ///< none: a memory-only node
  std::uint64_t bytes = 0;
  std::uint64_t available = 0;  ///< bytes, an estimate
  bool allowed = false;         ///< by this process's cpuset
};

/// The online nodes in ascending order. On a kernel without NUMA one node with all memory.
std::vector<NumaNodeInfo> numa_nodes(const std::string& directory = kNodeDirectory);

/// The node of this number. Throws std::invalid_argument, with the usable nodes, if it does not
/// exist, is offline, has no memory or is outside the cpuset.
NumaNodeInfo usable_node(int node, const std::string& directory = kNodeDirectory);

/// Throws MemoryShortage if node `node` lacks `bytes` for `purpose`. Call it before binding memory
/// to the node: on a full node the kernel kills the process instead of returning an error.
void check_node_memory(int node, std::uint64_t bytes, const std::string& purpose);

/// The numbers of a list in the format of the kernel, such as "0-3,8".
std::vector<int> parse_list(const std::string& text);

/// The inverse of parse_list.
std::string to_list(const std::vector<int>& numbers);

}  // namespace tieralloc
