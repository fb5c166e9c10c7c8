// fork_guard.cpp: handlers for pthread_atfork.
#include "base/fork_guard.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace tieralloc {
namespace {

std::atomic<std::uint64_t> forks{0};
std::mutex mutex;
std::vector<int>& descriptors() {
  static auto* list = new std::vector<int>;  // outlives every static destructor
  return *list;
}

void before_fork() {
  mutex.lock();
}
void after_in_parent() {
  mutex.unlock();
}
void after_in_child() {
  forks.fetch_add(1, std::memory_order_relaxed);
  for (int fd : descriptors()) close(fd);
  descriptors().clear();
  mutex.unlock();
}

[[maybe_unused]] const int registered =
    pthread_atfork(before_fork, after_in_parent, after_in_child);

}  // namespace

std::uint64_t fork_count() {
  return forks.load(std::memory_order_relaxed);
}

void close_in_child(int fd) {
  std::lock_guard lock(mutex);
  descriptors().push_back(fd);
}

void forget_in_child(int fd) {
  std::lock_guard lock(mutex);
  std::erase(descriptors(), fd);
}

}  // namespace tieralloc
