// fault_engine.hpp: reads by page fault from a mapping of the file, one page at a time. The last
// resort, and what engines are measured against.
#pragma once

#include "slow_tier/file/engine.hpp"

namespace tieralloc {

class FaultEngine final : public FetchEngine {
 public:
  /// Throws SystemFailure where the kernel refuses the copy that turns a fault into an error.
  explicit FaultEngine(const FetchTarget& target);
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  const char* name() const override { return "mmap"; }
  bool direct() const override { return false; }

 private:
  FetchTarget target_;
};

}  // namespace tieralloc
