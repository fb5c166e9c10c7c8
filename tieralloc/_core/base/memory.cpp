// memory.cpp: mmap, madvise, and memory limits read from /proc and /sys.
#include "base/memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/error.hpp"
#include "base/numa/placement.hpp"
#include "base/types.hpp"

namespace tieralloc {
namespace {

constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Maps `bytes` at a multiple of `alignment`. Unmaps the excess before and after.
std::byte* map_aligned(std::size_t bytes, std::size_t alignment) {
  const std::size_t span = bytes + (alignment > kPage ? alignment : 0);
  void* raw = mmap(nullptr, span, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto start = reinterpret_cast<std::uintptr_t>(raw);
  const std::uintptr_t aligned = round_up(start, alignment);
  if (aligned > start) munmap(raw, aligned - start);
  const std::uintptr_t end = aligned + bytes;
  if (start + span > end) munmap(reinterpret_cast<void*>(end), start + span - end);
  return reinterpret_cast<std::byte*>(aligned);
}

/// The number in a file of the kernel; no limit if it contains "max" or does not exist.
std::uint64_t limit_in(const std::string& path) {
  std::uint64_t limit = kNoLimit;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return limit;
  if (std::fscanf(file, "%" SCNu64, &limit) != 1) limit = kNoLimit;
  std::fclose(file);
  return limit;
}

/// The lowest memory limit of this process's control groups (of a container). Ignores their current
/// use, because much of it is page cache that the kernel can drop.
std::uint64_t control_group_limit() {
  std::uint64_t limit = kNoLimit;
  std::FILE* groups = std::fopen("/proc/self/cgroup", "re");
  if (groups == nullptr) return limit;
  char line[4096];
  while (std::fgets(line, sizeof line, groups) != nullptr) {
    // hierarchy:controllers:path; hierarchy 0 has all controllers
    const std::string text(line, std::strcspn(line, "\n"));
    const std::size_t names = text.find(':');
    const std::size_t path = text.find(':', names + 1);
    if (names == std::string::npos || path == std::string::npos) continue;
    const std::string controllers = "," + text.substr(names + 1, path - names - 1) + ",";
    const bool unified = text.compare(0, 2, "0:") == 0;
    if (!unified && controllers.find(",memory,") == std::string::npos) continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* file = unified ? "/memory.max" : "/memory.limit_in_bytes";
    // The limits of parent groups apply too; a container cannot see all of them.
    std::string group = text.substr(path + 1);
    for (std::size_t end = group.size(); end != std::string::npos; end = group.find_last_of('/')) {
      group.resize(end);
      limit = std::min(limit, limit_in(root + group + file));
    }
  }
  std::fclose(groups);
  return limit;
}

/// The bytes of a field of /proc/meminfo; 0 if it is missing.
std::uint64_t memory_field(const char* format) {
  std::FILE* meminfo = std::fopen("/proc/meminfo", "re");
  if (meminfo == nullptr) return 0;
  std::uint64_t kib = 0;
  char line[256];
  while (std::fgets(line, sizeof line, meminfo) != nullptr) {
    if (std::sscanf(line, format, &kib) == 1) break;
  }
  std::fclose(meminfo);
  return kib << 10;
}

}  // namespace

Region::Region(std::size_t bytes, const char* purpose, Filled filled) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugePage;
  const std::size_t size = size_for(bytes);
  std::byte* data = map_aligned(size, huge ? kHugePage : kPage);
  if (data == nullptr) {
    throw MemoryShortage("cannot map " + std::to_string(bytes) + " bytes of memory for the " +
                         purpose + ": " + std::strerror(errno));
  }
  if (huge) madvise(data, size, filled == Filled::gradual ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  madvise(data, size, MADV_DONTFORK);
  if (NodeScope* scope = NodeScope::current(); scope != nullptr && filled != Filled::sparse) {
    try {
      scope->place(data, size, purpose);
    } catch (...) {
      munmap(data, size);
      throw;
    }
  }
  data_ = data;
  size_ = size;
}

std::size_t Region::size_for(std::size_t bytes) {
  return round_up(bytes, kPage);
}

Region::~Region() {
  if (data_ != nullptr) munmap(data_, size_);
}

std::size_t huge_page_bytes(const void* data, std::size_t size) {
  if (size < kHugePage) return 0;  // spares the kernel a walk through all memory
  std::FILE* maps = std::fopen("/proc/self/smaps", "re");
  if (maps == nullptr) return 0;
  const auto low = reinterpret_cast<std::uintptr_t>(data);
  const auto high = low + size;
  std::size_t bytes = 0;
  bool inside = false;
  char line[512];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    std::size_t kib = 0;
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
      if (from >= high) break;
      inside = to > low;
    } else if (inside && std::sscanf(line, "AnonHugePages: %zu kB", &kib) == 1) {
      bytes += kib << 10;
    }
  }
  std::fclose(maps);
  return bytes < size ? bytes : size;
}

std::uint64_t available_memory() {
  return std::min(memory_field("MemAvailable: %" SCNu64 " kB"), control_group_limit());
}

std::uint64_t total_memory() {
  return memory_field("MemTotal: %" SCNu64 " kB");
}

}  // namespace tieralloc
