// file_io.hpp: whole reads and writes of a file, with errors that name its path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tieralloc {

/// Throws SystemFailure: `what`, and the error's text.
[[noreturn]] void fail_io(int code, const std::string& path, const std::string& what);

std::uint64_t size_of_file(int fd, const std::string& path);

/// Writes all bytes. Throws SystemFailure; some of the bytes may be written then.
void write_fully(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                 const std::string& path);

/// Reads up to the end of the file; returns the bytes read. Throws SystemFailure.
std::size_t read_up_to(int fd, std::span<std::byte> bytes, std::uint64_t offset,
                       const std::string& path);

/// DRAM that the kernel's page cache holds of a file. Throws SystemFailure.
std::uint64_t page_cache_bytes(int fd, const std::string& path);

/// Makes the entries of a file's directory durable. Throws SystemFailure.
void sync_directory_of(const std::string& path);

}  // namespace tieralloc
