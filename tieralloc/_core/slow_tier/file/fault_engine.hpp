// fault_engine.hpp: reads by page fault from a mapping of the file, one page at a time. The
// fallback, and the baseline for measurements.
#pragma once

#include "slow_tier/file/engine.hpp"

namespace tieralloc {

class FaultEngine final : public FetchEngine {
 public:
  /// Throws SystemFailure if the kernel refuses process_vm_readv.
  explicit FaultEngine(const FetchTarget& target);
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  const char* name() const override { return "mmap"; }
  bool direct() const override { return false; }

 private:
  const FetchTarget target_;
};

}  // namespace tieralloc
