// engine.hpp: reads many ranges of a file at once.
//
// `read` returns when every operation is complete. It notifies the listener meanwhile. Any number
// of threads.
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

struct FetchTarget {
  int fd = -1;
  bool direct =
      false;  ///< opened with O_DIRECT; else pages are dropped from the page cache after reads
  unsigned queue_depth = 256;  ///< reads in flight per call, at most kMaxQueueDepth
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

}  // namespace tieralloc
