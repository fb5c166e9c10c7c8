// small_disk.cpp: a tmpfs in a mount namespace of its own, gone with the thread.
#include "small_disk.hpp"

#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "check.hpp"
#include "support.hpp"

void on_small_disk(std::size_t bytes, const std::function<void(const std::string&)>& body) {
  TempDir dir;
  const std::string path = dir / "disk";
  std::filesystem::create_directory(path);
  Threads thread;
  thread.start([&] {
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) != 0) {
      SKIP(std::string("no mount namespace of its own: ") + std::strerror(errno));
    }
    const std::string size = "size=" + std::to_string(bytes);
    if (mount("tmpfs", path.c_str(), "tmpfs", 0, size.c_str()) != 0) {
      SKIP(std::string("cannot mount a tmpfs: ") + std::strerror(errno));
    }
    body(path);
  });
  thread.join();
}
