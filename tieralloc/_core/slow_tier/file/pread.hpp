// pread.hpp: one read by one thread.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/counters.hpp"
#include "slow_tier/file/engine.hpp"

namespace tieralloc {

/// Drops the pages of a buffered read: the page cache is DRAM outside of the budget.
inline void drop_pages(const FetchTarget& target, const ReadOp& op) {
  if (target.direct) return;
  posix_fadvise(target.fd, static_cast<off_t>(op.offset), op.length, POSIX_FADV_DONTNEED);
}

inline void read_by_pread(const FetchTarget& target, ReadOp& op) {
  std::uint32_t have = 0;
  while (have < op.length) {
    const ssize_t got =
        pread(target.fd, op.buffer + have, op.length - have, static_cast<off_t>(op.offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      op.finish(got == 0 ? -ENODATA : -errno, now_ns());
      return;
    }
    have += static_cast<std::uint32_t>(got);
  }
  drop_pages(target, op);
  op.finish(0, now_ns());
}

}  // namespace tieralloc
