// pread.hpp: one read by one thread.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/counters.hpp"
#include "slow_tier/file/engine.hpp"

namespace tieralloc {

/// Drops the pages of a buffered read: the page cache is DRAM outside of the budget.
inline void drop_pages(const FetchTarget::Place& place, std::uint32_t length) {
  if (place.file.direct) return;
  posix_fadvise(place.file.fd, static_cast<off_t>(place.offset), length, POSIX_FADV_DONTNEED);
}

inline void read_by_pread(const FetchTarget& target, ReadOp& op) {
  const FetchTarget::Place place = target.place_of(op.offset);
  std::uint32_t have = 0;
  do {
    const ssize_t got = pread(place.file.fd, op.buffer + have, op.length - have,
                              static_cast<off_t>(place.offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 || (got == 0 && have + op.slack < op.length)) {
      // After a part of a block, where the file ends, a direct read is refused.
      const bool is_end = got == 0 || (errno == EINVAL && have > 0);
      op.finish(is_end ? -ENODATA : -errno, now_ns());
      return;
    }
    have += static_cast<std::uint32_t>(got);
  } while (have + op.slack < op.length);
  drop_pages(place, op.length);
  op.finish(0, now_ns());
}

}  // namespace tieralloc
