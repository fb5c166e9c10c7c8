// fault_engine.cpp: maps a range, copies it by a system call, unmaps it.
#include "slow_tier/file/fault_engine.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "slow_tier/file/pread.hpp"

namespace tieralloc {
namespace {

/// Copies mapped bytes of this process by process_vm_readv: for a truncated file it returns an
/// error instead of raising SIGBUS. Returns minus an errno, 0 for success.
int copy_mapped(std::byte* to, const void* from, std::size_t size) {
  const iovec local{to, size};
  const iovec remote{const_cast<void*>(from), size};
  const ssize_t copied = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
  if (copied == static_cast<ssize_t>(size)) return 0;
  return copied < 0 && errno != EFAULT ? -errno : -ENODATA;
}

int read_by_fault(const FetchTarget& target, const ReadOp& op) {
  const auto [file, offset] = target.place_of(op.offset);
  void* map = mmap(nullptr, op.length, PROT_READ, MAP_SHARED, file.fd, static_cast<off_t>(offset));
  if (map == MAP_FAILED) return -errno;
  madvise(map, op.length, MADV_RANDOM);
  int result = copy_mapped(op.buffer, map, op.length);
  munmap(map, op.length);
  // The last page of a file reads as zeros after the end of the file.
  struct stat status;
  if (result == 0 && fstat(file.fd, &status) != 0) result = -errno;
  const std::uint64_t needed_end = offset + op.length - op.slack;
  if (result == 0 && needed_end > static_cast<std::uint64_t>(status.st_size)) {
    result = -ENODATA;
  }
  drop_pages({{.fd = file.fd}, offset}, op.length);  // page faults use the page cache in any case
  return result;
}

}  // namespace

FaultEngine::FaultEngine(const FetchTarget& target) : target_(target) {
  std::byte from{};
  std::byte to{};
  if (const int refused = copy_mapped(&to, &from, 1); refused != 0) {
    throw SystemFailure(
        -refused, std::string("process_vm_readv is refused here: ") + std::strerror(-refused), {});
  }
}

void FaultEngine::read(std::span<ReadOp> ops, ReadListener& listener) {
  for (ReadOp& op : ops) {
    op.finish(read_by_fault(target_, op), now_ns());
    listener.on_completions();
  }
}

}  // namespace tieralloc
