// nodes.hpp: the NUMA nodes of this machine, as sysfs and this process's cpuset have them.
//
// Everything is read anew at each call, from any number of threads.
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
  std::uint64_t available = 0;  ///< bytes that it can still give, an estimate
  bool allowed = false;         ///< whether this process's cpuset lets it take memory there
};

/// The nodes that are online, in ascending order. A kernel that knows none gives one, of all
/// memory.
std::vector<NumaNodeInfo> numa_nodes(const std::string& directory = kNodeDirectory);

/// The node of this number. Throws std::invalid_argument, naming the nodes there are, where it does
/// not exist, is offline, has no memory or lies outside the cpuset.
NumaNodeInfo usable_node(int node, const std::string& directory = kNodeDirectory);

/// Throws MemoryShortage where node `node` cannot give `bytes` for `purpose`. Asked before memory
/// is bound to it, because a node that is full ends in the kernel's OOM killer and not in an error.
void check_node_memory(int node, std::uint64_t bytes, const std::string& purpose);

/// The numbers of a list as the kernel writes them, such as "0-3,8".
std::vector<int> parse_list(const std::string& text);

/// The numbers as the kernel would write them.
std::string to_list(const std::vector<int>& numbers);

}  // namespace tieralloc
