// lock_holder.cpp: /proc/locks, whose lines of flocks read
//   NUMBER: FLOCK ADVISORY READ|WRITE PID MAJOR:MINOR:INODE START END
// with the device in hexadecimal digits, and "->" after the number of a process that waits.
#include "slow_tier/file/lock_holder.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <vector>

namespace tieralloc {
namespace {

constexpr std::size_t kMaxNamed = 4;

std::string name_of(const std::string& process) {
  if (process == std::to_string(getpid())) return "this process";
  std::string command;
  std::ifstream comm("/proc/" + process + "/comm");
  std::getline(comm, command);
  return "process " + process + (command.empty() ? "" : " (" + command + ")");
}

std::string identity_of(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return "";
  char device[32];
  std::snprintf(device, sizeof device, "%02x:%02x:", major(status.st_dev), minor(status.st_dev));
  return device + std::to_string(status.st_ino);
}

}  // namespace

std::string describe_lock_holders(int fd) {
  const std::string wanted = identity_of(fd);
  std::vector<std::string> names;
  std::string action;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, advisory, access, process, file;
    words >> number >> kind >> advisory >> access >> process >> file;
    if (kind != "FLOCK" || file != wanted || process == "0" || process.starts_with('-')) continue;
    names.push_back(name_of(process));
    action = access == "WRITE" ? "writes" : "reads";
  }
  if (names.empty()) return "/proc/locks does not say by which process";
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMaxNamed; ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kMaxNamed)
    text += " and " + std::to_string(names.size() - kMaxNamed) + " more";
  return names.size() == 1 ? text + " " + action + " it" : text + " read it";
}

}  // namespace tieralloc
