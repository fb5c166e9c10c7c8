// lock_holder.cpp: locks of this process and of others, named.
#include "slow_tier/file/lock_holder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <list>
#include <string>

#include "check.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

int open_file(const std::string& path) {
  return open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/// A process that locks a file until it is destroyed.
class Locker {
 public:
  Locker(const std::string& path, int operation) {
    int ready[2];
    CHECK_EQ(pipe(ready), 0);
    process_ = fork();
    if (process_ == 0) {
      const int fd = open_file(path);
      if (flock(fd, operation) != 0 || write(ready[1], "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    char byte;
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
  }
  ~Locker() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  std::string name() const { return "process " + std::to_string(process_); }

 private:
  pid_t process_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(lock_holders_are_named_by_number_and_command) {
  TempDir dir;
  const std::string path = dir / "f";
  const int fd = open_file(path);
  const Locker locker(path, LOCK_EX);
  const std::string text = describe_lock_holders(fd);
  CHECK(text.starts_with(locker.name() + " (") && text.ends_with(") writes it"));
  close(fd);
}

TEST(lock_holders_beyond_the_fourth_are_counted) {
  TempDir dir;
  const std::string path = dir / "f";
  const int fd = open_file(path);
  {
    std::list<Locker> lockers;
    for (int i = 0; i < 6; ++i) lockers.emplace_back(path, LOCK_SH);
    const std::string text = describe_lock_holders(fd);
    CHECK(text.ends_with(" and 2 more read it"));
    const auto is_named = [&](const Locker& each) { return contains(text, each.name() + " ("); };
    CHECK_EQ(std::count_if(lockers.begin(), lockers.end(), is_named), 4);  // whichever they are
  }
  close(fd);
}

TEST(lock_of_this_process_is_named_as_such) {
  TempDir dir;
  const int fd = open_file(dir / "f");
  const int other = open_file(dir / "g");
  CHECK_EQ(flock(fd, LOCK_SH), 0);
  CHECK_EQ(describe_lock_holders(fd), "this process reads it");
  CHECK_EQ(describe_lock_holders(other), "/proc/locks does not say by which process");
  close(fd);
  close(other);
}

}  // namespace
