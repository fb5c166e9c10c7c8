// syscalls.hpp: the kernel's memory policy calls, made without libnuma. Each returns 0 or an errno.
// Any number of threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tieralloc {

/// Binds pages of [data, data + size) that are touched later to a node (MPOL_BIND), or prefers it
/// for them (MPOL_PREFERRED). `data` is at a page's begin.
int bind_to_node(void* data, std::size_t size, int node, bool prefer);

/// The node of each page that an address lies in, minus an errno for one that is not there.
int nodes_of_pages(std::span<void* const> addresses, int* nodes);

/// Nodes that this thread's cpuset lets it take memory from; none where the kernel does not tell.
std::vector<int> allowed_nodes();

}  // namespace tieralloc
