// error.hpp: the kinds of failure that the core reports, one for each of Python's own that it
// becomes.
//
// std::invalid_argument becomes ValueError and std::out_of_range IndexError; the kinds below carry
// what those cannot.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace tieralloc {

/// A system call refused: OSError with `code` as errno and `path` as filename.
class SystemFailure : public std::runtime_error {
 public:
  SystemFailure(int code, const std::string& what, std::string path)
      : std::runtime_error(what), code(code), path(std::move(path)) {}
  int code;
  std::string path;
};

/// Memory that could not be had: MemoryError.
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

/// Describes the exception being handled; call it from a catch block.
ErrorReport describe_current_error() noexcept;

}  // namespace tieralloc
