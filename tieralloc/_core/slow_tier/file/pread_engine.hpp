// pread_engine.hpp: a pool of threads with one positioned read each. Works on every machine.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "slow_tier/file/engine.hpp"

namespace tieralloc {

class PreadEngine final : public FetchEngine {
 public:
  explicit PreadEngine(const FetchTarget& target);
  ~PreadEngine() override;
  void read(std::span<ReadOp> ops, ReadListener& listener) override;
  const char* name() const override { return "pread"; }
  bool direct() const override { return target_.file.direct; }

 private:
  struct Batch;

  void work();
  void stop();
  bool read_next(Batch& batch);

  const FetchTarget target_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Batch>> batches_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tieralloc
