// fork_guard.hpp: detects forks, and closes file descriptors in forked children.
//
// A forked child has the descriptors of its parent but none of its threads, so it cannot use the
// parent's stores. Registered descriptors are closed in the child at once: only the parent keeps
// the lock of a file. Any number of threads.
#pragma once

#include <cstdint>

namespace tieralloc {

/// The number of forks between the process that loaded the library and this one.
std::uint64_t fork_count();

void close_in_child(int fd);
/// Undoes close_in_child.
void forget_in_child(int fd);

}  // namespace tieralloc
