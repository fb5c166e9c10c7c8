// file_identity.cpp: compares the results of stat.
#include "slow_tier/file/file_identity.hpp"

#include <sys/stat.h>

#include <cerrno>

#include "base/error.hpp"

namespace tieralloc {
namespace {

bool is_same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

bool is_same_file(int fd, int other) {
  struct stat a, b;
  return fstat(fd, &a) == 0 && fstat(other, &b) == 0 && is_same(a, b);
}

bool is_same_file(int fd, const std::string& path) {
  struct stat own, named;
  return fstat(fd, &own) == 0 && stat(path.c_str(), &named) == 0 && is_same(own, named);
}

void check_named(int fd, const std::string& path) {
  struct stat own, named;
  if (fstat(fd, &own) != 0) return;
  const bool exists = stat(path.c_str(), &named) == 0;
  if (exists && is_same(own, named)) return;
  if (!exists && errno != ENOENT && errno != ENOTDIR) return;
  const bool is_deleted = own.st_nlink == 0;
  const std::string fate =
      is_deleted ? "was deleted while the store was open; its rows end with the store"
                 : "was moved while the store was open; updates are in the moved file";
  if (exists) {
    throw SystemFailure(ESTALE, "another file has this path; the store's own file " + fate, path);
  }
  throw SystemFailure(ENOENT, "the store's file " + fate, path);
}

}  // namespace tieralloc
