// syscalls.cpp: raw system calls, numbered by the kernel headers.
#include "base/numa/syscalls.hpp"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "base/limits.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kBits = sizeof(unsigned long) * CHAR_BIT;

using NodeMask = std::array<unsigned long, kMaxNodes / kBits>;

// The kernel reads one bit less than this argument.
constexpr unsigned long kMaskBits = kMaxNodes + 1;

}  // namespace

int bind_to_node(void* data, std::size_t size, int node, bool prefer) {
  if (node < 0 || static_cast<std::size_t>(node) >= kMaxNodes) return EINVAL;
  NodeMask mask{};
  mask[static_cast<std::size_t>(node) / kBits] = 1ul << (static_cast<std::size_t>(node) % kBits);
  const int mode = prefer ? MPOL_PREFERRED : MPOL_BIND;
  return syscall(SYS_mbind, data, size, mode, mask.data(), kMaskBits, 0ul) == 0 ? 0 : errno;
}

int nodes_of_pages(std::span<void* const> addresses, int* nodes) {
  // Without target nodes it moves nothing and returns the pages' nodes.
  return syscall(SYS_move_pages, 0, addresses.size(), addresses.data(), nullptr, nodes, 0) == 0
             ? 0
             : errno;
}

std::vector<int> allowed_nodes() {
  NodeMask mask{};
  std::vector<int> nodes;
  if (syscall(SYS_get_mempolicy, nullptr, mask.data(), kMaskBits - 1, nullptr,
              static_cast<unsigned long>(MPOL_F_MEMS_ALLOWED)) != 0) {
    return nodes;
  }
  for (std::size_t node = 0; node < kMaxNodes; ++node) {
    if (mask[node / kBits] >> (node % kBits) & 1) nodes.push_back(static_cast<int>(node));
  }
  return nodes;
}

}  // namespace tieralloc
