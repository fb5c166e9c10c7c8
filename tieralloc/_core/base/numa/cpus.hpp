// cpus.hpp: the processors of background threads. Any number of threads.
#pragma once

#include <vector>

namespace tieralloc {

/// Processors that the calling thread may run on.
std::vector<int> current_cpus();

/// Throws std::invalid_argument, with the processors that exist, for a processor that no thread of
/// this process may run on.
void check_cpus(const std::vector<int>& cpus);

/// Processors for threads that copy rows of a slow tier on `node`: those of the node. For a node
/// without processors: those that the calling thread does not use. None: any.
std::vector<int> cpus_for_node(int node);

/// Binds the calling thread to `cpus`; no effect if there are none. False if the kernel refuses.
bool pin_this_thread(const std::vector<int>& cpus);

}  // namespace tieralloc
