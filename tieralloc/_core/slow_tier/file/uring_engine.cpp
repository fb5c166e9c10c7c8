// uring_engine.cpp: submission and completion rings by raw system calls (io_uring(7)).
#include "slow_tier/file/uring_engine.hpp"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "slow_tier/file/pread.hpp"

namespace tieralloc {
namespace {

// The kernel's ABI, for build machines with older headers.
#ifndef IORING_SETUP_COOP_TASKRUN
#define IORING_SETUP_COOP_TASKRUN (1U << 8)
#endif

struct Mapping {
  Mapping(int fd, std::size_t size, off_t offset)
      : data(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)),
        size(size) {
    if (data == MAP_FAILED) {
      throw SystemFailure(errno, std::string("io_uring ring: ") + std::strerror(errno), {});
    }
    madvise(data, size, MADV_DONTFORK);
  }
  ~Mapping() { munmap(data, size); }
  Mapping(const Mapping&) = delete;

  template <typename T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data) + offset);
  }

  void* data;
  std::size_t size;
};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

int set_up(unsigned entries, io_uring_params& params) {
  // Without COOP_TASKRUN (Linux 5.19) each completion interrupts the submitting thread.
  for (unsigned flags : {IORING_SETUP_COOP_TASKRUN, 0u}) {
    std::memset(&params, 0, sizeof params);
    params.flags = flags;
    const long fd = syscall(__NR_io_uring_setup, entries, &params);
    if (fd >= 0) return static_cast<int>(fd);
    if (errno != EINVAL) break;
  }
  throw SystemFailure(errno, std::string("io_uring is refused here: ") + std::strerror(errno), {});
}

}  // namespace

class UringEngine::Ring {
 public:
  explicit Ring(unsigned depth)
      : fd_(set_up(depth, params_)),
        rings_(fd_, ring_bytes(), IORING_OFF_SQ_RING),
        entries_(fd_, params_.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES) {
    if ((params_.features & IORING_FEAT_SINGLE_MMAP) == 0) {
      throw SystemFailure(ENOSYS, "io_uring of a kernel before 5.4", {});
    }
  }

  unsigned free_entries() const { return params_.sq_entries - in_flight_; }
  unsigned in_flight() const { return in_flight_; }

  void queue(const FetchTarget::Place& place, ReadOp& op) {
    auto* tail = rings_.at<std::uint32_t>(params_.sq_off.tail);
    const std::uint32_t mask = *rings_.at<std::uint32_t>(params_.sq_off.ring_mask);
    const std::uint32_t slot = *tail & mask;
    auto& entry = entries_.at<io_uring_sqe>(0)[slot];
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_READ;
    entry.fd = place.file.fd;
    entry.off = place.offset;
    entry.addr = reinterpret_cast<std::uintptr_t>(op.buffer);
    entry.len = op.length;
    entry.user_data = reinterpret_cast<std::uintptr_t>(&op);
    rings_.at<std::uint32_t>(params_.sq_off.array)[slot] = slot;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    ++queued_;
    ++in_flight_;
  }

  /// Submits the queued operations and waits for at least one completion. Returns an errno, 0 for
  /// success.
  int submit_and_wait() {
    while (true) {
      const long taken = syscall(__NR_io_uring_enter, static_cast<int>(fd_), queued_, 1u,
                                 IORING_ENTER_GETEVENTS, nullptr, 0);
      if (taken >= 0) {
        queued_ -= static_cast<unsigned>(taken);
        return 0;
      }
      if (errno == EAGAIN || errno == EBUSY) return completions_ready() ? 0 : errno;
      if (errno != EINTR) return errno;
    }
  }

  /// Calls `take(op, result)` for each completion.
  template <typename Take>
  void harvest(Take take) {
    auto* head = rings_.at<std::uint32_t>(params_.cq_off.head);
    const std::uint32_t mask = *rings_.at<std::uint32_t>(params_.cq_off.ring_mask);
    const auto* completions = rings_.at<io_uring_cqe>(params_.cq_off.cqes);
    std::uint32_t at = *head;
    const std::uint32_t end =
        __atomic_load_n(rings_.at<std::uint32_t>(params_.cq_off.tail), __ATOMIC_ACQUIRE);
    for (; at != end; ++at) {
      const io_uring_cqe& completion = completions[at & mask];
      auto* op = reinterpret_cast<ReadOp*>(static_cast<std::uintptr_t>(completion.user_data));
      const std::int32_t result = completion.res;
      --in_flight_;
      __atomic_store_n(head, at + 1, __ATOMIC_RELEASE);
      take(*op, result);
    }
  }

  /// Removes operations that the kernel did not accept; they have no result yet.
  template <typename Take>
  void cancel_queued(Take take) {
    auto* tail = rings_.at<std::uint32_t>(params_.sq_off.tail);
    const std::uint32_t mask = *rings_.at<std::uint32_t>(params_.sq_off.ring_mask);
    for (; queued_ > 0; --queued_, --in_flight_) {
      __atomic_store_n(tail, *tail - 1, __ATOMIC_RELEASE);
      const auto& entry = entries_.at<io_uring_sqe>(0)[*tail & mask];
      take(*reinterpret_cast<ReadOp*>(static_cast<std::uintptr_t>(entry.user_data)));
    }
  }

 private:
  std::size_t ring_bytes() const {
    return std::max<std::size_t>(params_.sq_off.array + params_.sq_entries * sizeof(std::uint32_t),
                                 params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe));
  }

  bool completions_ready() const {
    return __atomic_load_n(rings_.at<std::uint32_t>(params_.cq_off.tail), __ATOMIC_ACQUIRE) !=
           *rings_.at<std::uint32_t>(params_.cq_off.head);
  }

  io_uring_params params_;
  Descriptor fd_;
  Mapping rings_;
  Mapping entries_;
  unsigned queued_ = 0;     ///< in the ring, not submitted yet
  unsigned in_flight_ = 0;  ///< queued or submitted, not harvested yet
};

UringEngine::UringEngine(const FetchTarget& target) : target_(target) {
  idle_.push_back(std::make_unique<Ring>(target.queue_depth));
}

UringEngine::~UringEngine() = default;

std::unique_ptr<UringEngine::Ring> UringEngine::borrow() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto ring = std::move(idle_.back());
      idle_.pop_back();
      return ring;
    }
  }
  return std::make_unique<Ring>(target_.queue_depth);
}

void UringEngine::give_back(std::unique_ptr<Ring> ring) {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(ring));
}

void UringEngine::read_one_by_one(std::span<ReadOp> ops, ReadListener& listener) {
  for (ReadOp& op : ops) {
    read_by_pread(target_, op);
    listener.on_completions();
  }
}

void UringEngine::read(std::span<ReadOp> ops, ReadListener& listener) {
  if (ops.size() <= 1) return read_one_by_one(ops, listener);  // nothing to overlap
  std::unique_ptr<Ring> ring;
  try {
    ring = borrow();
  } catch (const SystemFailure&) {
    // No descriptors left, or no memory that may be locked.
    return read_one_by_one(ops, listener);
  }
  const auto take = [&](ReadOp& op, std::int32_t result) {
    const bool whole = result >= static_cast<std::int32_t>(op.length - op.slack);
    if (!whole && (result >= 0 || result == -EINTR || result == -EAGAIN)) {
      // Rare: interrupted, or the file was truncated. pread distinguishes them.
      read_by_pread(target_, op);
    } else {
      drop_pages(target_.place_of(op.offset), op.length);
      op.finish(whole ? 0 : result, now_ns());
    }
  };
  std::size_t next = 0;
  while (next < ops.size() || ring->in_flight() > 0) {
    while (ring->free_entries() > 0 && next < ops.size()) {
      ring->queue(target_.place_of(ops[next].offset), ops[next]);
      ++next;
    }
    if (const int refused = ring->submit_and_wait(); refused != 0) {
      ring->cancel_queued([&](ReadOp& op) { op.finish(-refused, now_ns()); });
      for (; next < ops.size(); ++next) ops[next].finish(-refused, now_ns());
    }
    ring->harvest(take);
    listener.on_completions();
  }
  give_back(std::move(ring));
}

}  // namespace tieralloc
