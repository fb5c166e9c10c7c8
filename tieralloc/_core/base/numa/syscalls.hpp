// syscalls.hpp: the kernel's memory policy calls, without libnuma.
//
// Each returns 0 or an errno. Any number of threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tieralloc {

/// Binds the pages of [data, data + size) that are not touched yet to a node (MPOL_BIND), or
/// prefers the node for them (MPOL_PREFERRED). `data` is the start of a page.
int bind_to_node(void* data, std::size_t size, int node, bool prefer);

/// The node of the page of each address; minus an errno for a page that does not exist.
int nodes_of_pages(std::span<void* const> addresses, int* nodes);

/// Nodes from which this thread's cpuset permits memory; none if the kernel does not report them.
std::vector<int> allowed_nodes();

}  // namespace tieralloc
