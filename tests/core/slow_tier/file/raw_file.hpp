// raw_file.hpp: a file of known bytes and its descriptor.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/memory.hpp"
#include "check.hpp"

/// The byte at an offset of a patterned file.
inline std::byte pattern_at(std::uint64_t offset) {
  return static_cast<std::byte>((offset * 0x9E3779B97F4A7C15u) >> 56 ^ offset >> 12);
}

inline bool is_pattern(const std::byte* bytes, std::uint64_t offset, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != pattern_at(offset + i)) return false;
  }
  return true;
}

inline void make_patterned_file(const std::string& path, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern_at(i);
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  CHECK(fd >= 0);
  CHECK_EQ(write(fd, bytes.data(), size), static_cast<ssize_t>(size));
  close(fd);
}

/// An open descriptor, closed with the object.
class OpenFile {
 public:
  OpenFile(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};
