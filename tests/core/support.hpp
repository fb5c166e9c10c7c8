// support.hpp: what many tests need: a directory of their own, threads whose failures reach the
// test, and how long a stress test goes on.
#pragma once

#include <atomic>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"

/// `count` times what TIERALLOC_STRESS says, 1 by default.
inline std::size_t stressed(std::size_t count) {
  static const char* const factor = std::getenv("TIERALLOC_STRESS");
  static const double times = factor == nullptr ? 1.0 : std::atof(factor);
  return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(count) * times));
}

/// A new directory under $TMPDIR or /tmp, removed with all in it.
class TempDir {
 public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "tieralloc-core-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) check::fail(__FILE__, __LINE__, "mkdtemp " + name);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Threads that end with the object at the latest. The first failure in any of them asks the others
/// to stop, and `join` throws it on.
class Threads {
 public:
  Threads() = default;
  ~Threads() { end(); }
  Threads(const Threads&) = delete;

  void start(std::function<void()> body) {
    threads_.emplace_back([this, body = std::move(body)] {
      try {
        body();
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        stop_ = true;
      }
    });
  }

  /// What a thread that goes on for as long as the others looks at.
  bool stopped() const { return stop_; }
  void stop() { stop_ = true; }

  void join() {
    end();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  void end() {
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::atomic<bool> stop_{false};
};

/// Waits for what another thread brings about; a test that waits in vain is ended by the watchdog.
template <typename Condition>
void wait_until(Condition condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::microseconds(100));
}
