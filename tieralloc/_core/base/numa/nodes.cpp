// nodes.cpp: nodes read from sysfs and the process's cpuset.
#include "base/numa/nodes.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "base/numa/syscalls.hpp"

namespace tieralloc {
namespace {

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

struct NodeMemory {
  std::uint64_t total = 0, available = 0;
};

/// Estimates as the kernel does for the whole machine (MemAvailable): free memory above a reserve,
/// half of the page cache, and half of the reclaimable slabs.
NodeMemory memory_of(const std::string& meminfo) {
  NodeMemory memory;
  std::uint64_t available = 0;
  std::ifstream file(meminfo);
  for (std::string line; std::getline(file, line);) {
    char name[64];
    std::uint64_t kib = 0;
    if (std::sscanf(line.c_str(), "Node %*d %63[^:]: %" SCNu64 " kB", name, &kib) != 2) continue;
    const std::string field = name;
    if (field == "MemTotal") memory.total = kib << 10;
    if (field == "MemFree") available += kib << 10;
    if (field == "Active(file)" || field == "Inactive(file)" || field == "SReclaimable") {
      available += kib << 9;
    }
  }
  // Below its watermarks the kernel reclaims memory before it allocates any.
  const std::uint64_t reserve = memory.total / 32;
  memory.available = available > reserve ? available - reserve : 0;
  return memory;
}

std::string describe(const std::vector<NumaNodeInfo>& nodes) {
  std::string text;
  for (const NumaNodeInfo& node : nodes) {
    if (node.bytes == 0 || !node.allowed) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(node.id) + " (" +
            std::to_string(node.bytes >> 20) + " MiB" + (node.cpus.empty() ? ", memory only" : "") +
            ")";
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<int> parse_list(const std::string& text) {
  std::vector<int> numbers;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0;
    int last = 0;
    const int fields = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (fields < 1) continue;
    if (fields < 2) last = first;
    for (int number = first; number <= last; ++number) numbers.push_back(number);
  }
  return numbers;
}

std::string to_list(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += "-" + std::to_string(numbers[last]);
    i = last + 1;
  }
  return text;
}

std::vector<NumaNodeInfo> numa_nodes(const std::string& directory) {
  std::vector<int> online = parse_list(read_line(directory + "/online"));
  const std::vector<int> allowed = allowed_nodes();
  std::vector<NumaNodeInfo> nodes;
  for (const int id : online) {
    const std::string place = directory + "/node" + std::to_string(id);
    const NodeMemory memory = memory_of(place + "/meminfo");
    const bool may =
        allowed.empty() || std::find(allowed.begin(), allowed.end(), id) != allowed.end();
    nodes.push_back(
        {id, parse_list(read_line(place + "/cpulist")), memory.total, memory.available, may});
  }
  if (nodes.empty()) {
    nodes.push_back({0, parse_list(read_line("/sys/devices/system/cpu/online")), total_memory(),
                     available_memory(), true});
  }
  return nodes;
}

NumaNodeInfo usable_node(int node, const std::string& directory) {
  const std::vector<NumaNodeInfo> nodes = numa_nodes(directory);
  const auto found = std::find_if(nodes.begin(), nodes.end(),
                                  [&](const NumaNodeInfo& info) { return info.id == node; });
  std::string problem;
  if (found == nodes.end()) {
    const std::vector<int> possible = parse_list(read_line(directory + "/possible"));
    const bool offline = std::find(possible.begin(), possible.end(), node) != possible.end();
    problem = offline ? "is offline" : "does not exist";
  } else if (found->bytes == 0) {
    problem = "has no memory";
  } else if (!found->allowed) {
    problem = "is outside this process's cpuset (Mems_allowed)";
  } else {
    return *found;
  }
  throw std::invalid_argument("node " + std::to_string(node) + ": " + problem +
                              "; expected one with memory for this process: " + describe(nodes));
}

void check_node_memory(int node, std::uint64_t bytes, const std::string& purpose) {
  const NumaNodeInfo info = usable_node(node);
  if (bytes <= info.available) return;
  throw MemoryShortage("node " + std::to_string(node) + ": not enough memory for the " + purpose +
                       "; expected at most the " + std::to_string(info.available) +
                       " bytes available of " + std::to_string(info.bytes) + ", got " +
                       std::to_string(bytes));
}

}  // namespace tieralloc
