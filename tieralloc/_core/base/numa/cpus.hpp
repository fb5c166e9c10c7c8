// cpus.hpp: which processors background threads run on.
#pragma once

#include <vector>

namespace tieralloc {

/// Processors that the calling thread may run on.
std::vector<int> current_cpus();

/// Throws std::invalid_argument, naming those there are, for a processor that no thread of this
/// process can run on.
void check_cpus(const std::vector<int>& cpus);

/// Where threads that migrate rows of a slow tier on `node` belong: the node's own processors, or,
/// of a node without, those that the calling thread, which will serve, keeps away from. None:
/// anywhere.
std::vector<int> cpus_for_node(int node);

/// Lets the calling thread run on these only; on any where there are none. False where it is
/// refused.
bool pin_this_thread(const std::vector<int>& cpus);

}  // namespace tieralloc
