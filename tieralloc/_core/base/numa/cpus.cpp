// cpus.cpp: sets of processors, by sched_setaffinity.
#include "base/numa/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/limits.hpp"
#include "base/numa/nodes.hpp"

namespace tieralloc {
namespace {

/// A set of up to kMaxCpus processors, more than cpu_set_t holds.
class CpuSet {
 public:
  CpuSet() : set_(CPU_ALLOC(kMaxCpus)), size_(CPU_ALLOC_SIZE(kMaxCpus)) {
    if (set_ == nullptr) throw std::bad_alloc();
    CPU_ZERO_S(size_, set_);
  }
  ~CpuSet() { CPU_FREE(set_); }
  CpuSet(const CpuSet&) = delete;

  void add(int cpu) { CPU_SET_S(static_cast<std::size_t>(cpu), size_, set_); }
  bool get() { return sched_getaffinity(0, size_, set_) == 0; }
  bool set() { return sched_setaffinity(0, size_, set_) == 0; }

  std::vector<int> cpus() const {
    std::vector<int> found;
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size_, set_)) found.push_back(cpu);
    }
    return found;
  }

 private:
  cpu_set_t* set_;
  std::size_t size_;
};

std::vector<int> online_cpus() {
  std::ifstream file("/sys/devices/system/cpu/online");
  std::string line;
  std::getline(file, line);
  return parse_list(line);
}

/// The processors among `cpus` that a thread of this process may run on. Tried in a thread of its
/// own, because a trial changes the thread's set.
std::vector<int> possible_among(const std::vector<int>& cpus) {
  std::vector<int> possible;
  std::thread([&] {
    for (const int cpu : cpus) {
      if (pin_this_thread({cpu})) possible.push_back(cpu);
    }
  }).join();
  return possible;
}

}  // namespace

std::vector<int> current_cpus() {
  CpuSet set;
  return set.get() ? set.cpus() : std::vector<int>{};
}

bool pin_this_thread(const std::vector<int>& cpus) {
  if (cpus.empty()) return true;
  CpuSet set;
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu >= kMaxCpus) return false;
    set.add(cpu);
  }
  return set.set();
}

void check_cpus(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  const std::vector<int> possible = possible_among(cpus);
  for (const int cpu : cpus) {
    if (std::find(possible.begin(), possible.end(), cpu) != possible.end()) continue;
    throw std::invalid_argument("cpus: expected processors that this process may run on, " +
                                to_list(possible_among(online_cpus())) + ", got " +
                                std::to_string(cpu));
  }
}

std::vector<int> cpus_for_node(int node) {
  for (const NumaNodeInfo& info : numa_nodes()) {
    if (info.id == node && !info.cpus.empty()) return possible_among(info.cpus);
  }
  const std::vector<int> serving = current_cpus();
  std::vector<int> others;
  for (const int cpu : online_cpus()) {
    if (std::find(serving.begin(), serving.end(), cpu) == serving.end()) others.push_back(cpu);
  }
  return possible_among(others);
}

}  // namespace tieralloc
