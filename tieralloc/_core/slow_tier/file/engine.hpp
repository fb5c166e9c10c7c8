// engine.hpp: reads many ranges of one file, or of several, at once.
//
// `read` returns when every operation is complete. It notifies the listener meanwhile. Any number
// of threads. An operation on several files has the number of its file in the upper bits of its
// offset (`NumberedOffset`).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

class FetchEngine {
 public:
  virtual ~FetchEngine() = default;
  virtual void read(std::span<ReadOp> ops, ReadListener& listener) = 0;
  virtual const char* name() const = 0;
  /// Whether reads bypass the kernel's page cache.
  virtual bool direct() const = 0;
};

/// An offset in one of several files.
struct NumberedOffset {
  static constexpr unsigned kBits = 48;  ///< of the offset
  static constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << kBits;
  static constexpr std::size_t kMaxFiles = std::size_t{1} << (63 - kBits);

  std::uint64_t file = 0;
  std::uint64_t offset = 0;

  static constexpr NumberedOffset of(std::uint64_t value) {
    return {value >> kBits, value & (kMaxFileBytes - 1)};
  }
  constexpr std::uint64_t value() const { return file << kBits | offset; }
};

/// A file to read.
struct ReadFile {
  int fd = -1;
  bool direct = false;  ///< opened with O_DIRECT; else pages are dropped from the page cache
};

struct FetchTarget {
  /// An offset of a file, which is of several if there are `files`.
  struct Place {
    ReadFile file;
    std::uint64_t offset;
  };

  ReadFile file;                      ///< the only one, or an example of `files`
  unsigned queue_depth = 256;         ///< reads in flight per call, at most kMaxQueueDepth
  std::span<const ReadFile> files{};  ///< several; not owned

  Place place_of(std::uint64_t offset) const {
    if (files.empty()) return {file, offset};
    const NumberedOffset numbered = NumberedOffset::of(offset);
    return {files[numbered.file], numbered.offset};
  }
};

/// Names for make_fetch_engine, the fastest first.
std::vector<std::string> fetch_engine_names();

/// Throws std::invalid_argument for an unknown name, and SystemFailure if the machine refuses the
/// engine.
std::unique_ptr<FetchEngine> make_fetch_engine(std::string_view name, const FetchTarget& target);

/// An engine that has read the first block of the target; "auto" is the first one that can. Throws
/// as make_fetch_engine, and SystemFailure if the read fails.
std::unique_ptr<FetchEngine> choose_fetch_engine(std::string_view name, const FetchTarget& target);

/// The reason why this machine refuses an engine; empty if it reads a file.
std::string fetch_engine_refusal(std::string_view name);

/// Its name for `stats()`, with "(O_DIRECT)", or "(buffered)" and the reason, which may be empty.
std::string describe_engine(const FetchEngine& engine, const std::string& refusal);

}  // namespace tieralloc
