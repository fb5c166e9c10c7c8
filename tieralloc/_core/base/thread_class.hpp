// thread_class.hpp: how the kernel schedules threads in the background.
#pragma once

namespace tieralloc {

/// Lets threads that serve run first where there are not enough cores for all: the calling thread
/// may be interrupted by a thread that wakes up. Its weight stays that of others, and the class is
/// not the idle one: lookups wait for rows that such a thread reads and for locks that it holds.
/// Without effect where the kernel refuses.
void yield_to_serving();

}  // namespace tieralloc
