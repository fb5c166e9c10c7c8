// memory.hpp: anonymous memory straight from the kernel, on huge pages where they can be had.
//
// Regions are zero-filled, and not handed to a forked child: a child that touched its parent's
// tiers would see them without the threads that keep them right. One that is made while a NodeScope
// (numa/placement.hpp) lives is put on that scope's node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace tieralloc {

class Region {
 public:
  Region() = default;
  /// Throws MemoryShortage, naming `purpose` and the size, where the kernel refuses, and what
  /// NodeScope::place throws.
  Region(std::size_t bytes, const char* purpose);
  ~Region();
  /// Bytes that a region for so many takes: whole pages.
  static std::size_t size_for(std::size_t bytes);
  Region(Region&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Region& operator=(Region&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Bytes of [data, data+size) that lie on huge pages now, as the kernel tells; 0 where it does not
/// tell.
std::size_t huge_page_bytes(const void* data, std::size_t size);

/// Bytes that the machine can still give without swapping, as /proc/meminfo estimates, and no more
/// than a container may have; 0 where it does not tell.
std::uint64_t available_memory();

/// Bytes of memory that the machine has; 0 where /proc/meminfo does not tell.
std::uint64_t total_memory();

}  // namespace tieralloc
