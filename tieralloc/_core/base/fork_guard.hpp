// fork_guard.hpp: what becomes of a store in a forked child: nothing of it works there, and nothing
// of it is held there.
//
// The child has the parent's descriptors but none of its threads. Descriptors registered here are
// closed in the child at once, so that a file's lock belongs to the parent alone.
#pragma once

#include <cstdint>

namespace tieralloc {

/// How many forks lie between this process and the one that loaded the library.
std::uint64_t fork_count();

void close_in_child(int fd);
void forget_in_child(int fd);

}  // namespace tieralloc
