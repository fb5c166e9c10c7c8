// memory.hpp: anonymous memory mappings, on huge pages if possible, and memory sizes.
//
// Regions are zero-filled. A forked child does not inherit them. A region that is created while a
// NodeScope (numa/placement.hpp) lives is placed on the node of the scope.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace tieralloc {

/// How memory is filled. `sparse`: much of it never, so that a NodeScope does not place it.
/// `gradual`: over a while, in small pages: a thread that touches a huge page first zeroes it,
/// which takes milliseconds in a virtual machine.
enum class Filled { whole, sparse, gradual };

class Region {
 public:
  Region() = default;
  /// Throws MemoryShortage, with `purpose` and the size, if the kernel refuses, and what
  /// NodeScope::place throws.
  Region(std::size_t bytes, const char* purpose, Filled filled = Filled::whole);
  ~Region();
  /// The size of a region for `bytes`: whole pages.
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

/// Bytes of [data, data+size) on huge pages now; 0 if the kernel does not report them.
std::size_t huge_page_bytes(const void* data, std::size_t size);

/// Bytes available without swapping (/proc/meminfo), within the limit of a container; 0 if unknown.
std::uint64_t available_memory();

/// Bytes of memory of the machine; 0 if unknown.
std::uint64_t total_memory();

}  // namespace tieralloc
