// engine.hpp: ways to read many pieces of a file at once.
//
// `read` blocks its caller until every piece has a result, and lets the listener use the time; any
// number of threads may call it.
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
  bool direct = false;  ///< opened with O_DIRECT; else pages read are dropped from the cache behind
  unsigned queue_depth = 256;  ///< pieces under way at a time
};

/// Names that make_fetch_engine knows besides "auto", the best first.
std::vector<std::string> fetch_engine_names();

/// "auto" takes the first engine that works here. Throws std::invalid_argument for a name it does
/// not know and SystemFailure where the named one is refused.
std::unique_ptr<FetchEngine> make_fetch_engine(std::string_view name, const FetchTarget& target);

/// Why the named engine cannot be used on this machine; empty where it can.
std::string fetch_engine_refusal(std::string_view name);

}  // namespace tieralloc
