// thread_class.hpp: the scheduling class of background threads.
#pragma once

namespace tieralloc {

/// Makes the calling thread a batch thread: threads that wake up preempt it. Its weight stays that
/// of other threads. It does not become an idle thread, because lookups wait for rows that it reads
/// and for locks that it holds. No effect if the kernel refuses.
void yield_to_serving();

}  // namespace tieralloc
