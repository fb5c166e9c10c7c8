// uring_engine.hpp: reads by io_uring: one thread fills the device's queue.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "slow_tier/file/engine.hpp"

namespace tieralloc {

class UringEngine final : public FetchEngine {
 public:
  /// Throws SystemFailure if the kernel or a sandbox refuses io_uring.
  explicit UringEngine(const FetchTarget& target);
  ~UringEngine() override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  const char* name() const override { return "io_uring"; }
  bool direct() const override { return target_.file.direct; }

 private:
  class Ring;

  void read_one_by_one(std::span<ReadOp> ops, ReadListener& listener);
  std::unique_ptr<Ring> borrow();
  void give_back(std::unique_ptr<Ring> ring);

  const FetchTarget target_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Ring>> idle_;  ///< each call takes one, so rings are never shared
};

}  // namespace tieralloc
