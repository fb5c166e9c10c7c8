// placement.cpp: mbind, first touch, move_pages.
#include "base/numa/placement.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.hpp"
#include "base/numa/nodes.hpp"
#include "base/numa/syscalls.hpp"
#include "base/types.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace tieralloc {
namespace {

// Memory is touched in steps. Each step checks the node again, because other processes allocate
// there meanwhile.
constexpr std::size_t kStep = std::size_t{64} << 20;

thread_local NodeScope* innermost = nullptr;

void touch_pages(std::byte* data, std::size_t size) {
  volatile std::byte* bytes = data;
  for (std::size_t at = 0; at < size; at += kPage) bytes[at] = std::byte{0};
}

}  // namespace

void Placement::add(const Placement& other) {
  pages += other.pages;
  elsewhere += other.elsewhere;
  if (refused.empty()) refused = other.refused;
  if (unverified.empty()) unverified = other.unverified;
}

NodeScope::NodeScope(const NodeRequest& request) : request_(request), outer_(innermost) {
  placement_.node = request.node;
  placement_.prefer = request.prefer;
  innermost = this;
}

NodeScope::~NodeScope() {
  innermost = outer_;
}

NodeScope* NodeScope::current() {
  return innermost;
}

void NodeScope::place(std::byte* data, std::size_t size, const char* purpose) {
  if (request_.node >= 0) bind(data, size);
  touch(data, size, purpose);
  if (request_.node >= 0) verify(data, size);
}

void NodeScope::bind(std::byte* data, std::size_t size) {
  const int code = bind_to_node(data, size, request_.node, request_.prefer);
  if (code == 0) return;
  const std::string what = "the kernel refuses to bind memory to node " +
                           std::to_string(request_.node) + " (mbind): " + std::strerror(code);
  if (request_.strict) {
    throw SystemFailure(code,
                        what +
                            "; a container's seccomp profile may forbid it: allow it there, or "
                            "pass strict=False to go on unbound",
                        {});
  }
  placement_.refused = what;
}

void NodeScope::touch(std::byte* data, std::size_t size, const char* purpose) const {
  const bool bound = request_.node >= 0 && !request_.prefer && placement_.refused.empty();
  for (std::size_t at = 0; at < size; at += kStep) {
    const std::size_t step = std::min(kStep, size - at);
    if (bound) check_node_memory(request_.node, step, purpose);
    if (madvise(data + at, step, MADV_POPULATE_WRITE) == 0) continue;
    if (errno != EINVAL) {
      throw MemoryShortage("cannot get " + std::to_string(size) + " bytes of memory for the " +
                           purpose + ": " + std::strerror(errno));
    }
    touch_pages(data + at, step);  // an older kernel
  }
}

void NodeScope::verify(const std::byte* data, std::size_t size) {
  constexpr std::size_t kPagesACall = 4096;
  std::vector<void*> addresses;
  std::vector<int> nodes(kPagesACall);
  for (std::size_t at = 0; at < size; at += kPagesACall * kPage) {
    addresses.clear();
    for (std::size_t page = at; page < size && addresses.size() < kPagesACall; page += kPage) {
      addresses.push_back(const_cast<std::byte*>(data) + page);
    }
    if (const int code = nodes_of_pages(addresses, nodes.data()); code != 0) {
      placement_.unverified = std::string("move_pages: ") + std::strerror(code);
      return;
    }
    placement_.pages += addresses.size();
    placement_.elsewhere += static_cast<std::uint64_t>(
        std::count_if(nodes.begin(), nodes.begin() + static_cast<std::ptrdiff_t>(addresses.size()),
                      [&](int node) { return node != request_.node; }));
  }
}

}  // namespace tieralloc
