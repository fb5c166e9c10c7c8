// support.hpp: helpers of many tests: temporary directories, threads whose failures the test
// throws, and the length of tests that repeat.
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

#include "base/error.hpp"
#include "check.hpp"

/// The errno of the SystemFailure that a body throws; 0 if it succeeds.
template <typename Body>
int code_of(Body body) {
  try {
    body();
  } catch (const tieralloc::SystemFailure& failure) {
    return failure.code;
  }
  return 0;
}

/// `count` times the factor TIERALLOC_STRESS, 1 by default.
inline std::size_t stressed(std::size_t count) {
  static const char* const factor = std::getenv("TIERALLOC_STRESS");
  static const double times = factor == nullptr ? 1.0 : std::atof(factor);
  return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(count) * times));
}

/// The repetitions of a test that starts no thread: few under ThreadSanitizer, which sees nothing.
inline std::size_t repeated(std::size_t count) {
#ifdef __SANITIZE_THREAD__
  count = (count + 9) / 10;
#endif
  return stressed(count);
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

/// Threads, stopped and joined by the destructor at the latest. The first failure stops the others,
/// and `join` throws it.
class Threads {
 public:
  Threads() = default;
  ~Threads() {
    stop();
    end();
  }
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

  /// Whether threads without an end must stop.
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

/// Waits until a condition holds that another thread establishes; the watchdog ends a hanging test.
template <typename Condition>
void wait_until(Condition condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::microseconds(100));
}
