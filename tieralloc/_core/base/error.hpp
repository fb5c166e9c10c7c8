// error.hpp: the exceptions of the core, and their description for a binding.
//
// std::invalid_argument becomes Python's ValueError, std::out_of_range IndexError. The types below
// become OSError and MemoryError.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {

/// A system call failed: OSError with `code` as errno and `path` as filename.
class SystemFailure : public std::runtime_error {
 public:
  SystemFailure(int code, const std::string& what, std::string path)
      : std::runtime_error(what), code(code), path(std::move(path)) {}
  int code;
  std::string path;
};

/// Memory is short: MemoryError.
class MemoryShortage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ErrorKind { none, value, index, system, memory, other };

struct ErrorReport {
  ErrorKind kind = ErrorKind::none;
  int code = 0;
  std::string message;
  std::string path;
};

/// Describes the exception being handled. Call it from a catch block.
ErrorReport describe_current_error() noexcept;

}  // namespace tieralloc
