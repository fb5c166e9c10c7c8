// file_identity.cpp: a path that loses its file.
#include "slow_tier/file/file_identity.hpp"

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

int code_of(int fd, const std::string& path) {
  try {
    check_named(fd, path);
    return 0;
  } catch (const SystemFailure& failure) {
    CHECK_EQ(failure.path, path);
    return failure.code;
  }
}

TEST(path_that_loses_its_file_is_reported) {
  TempDir dir;
  make_patterned_file(dir / "f", 10);
  make_patterned_file(dir / "g", 10);
  const OpenFile f(dir / "f", O_RDONLY);
  const OpenFile again(dir / "f", O_RDONLY);
  const OpenFile g(dir / "g", O_RDONLY);
  CHECK(is_same_file(f.fd(), again.fd()) && !is_same_file(f.fd(), g.fd()));
  CHECK(is_same_file(f.fd(), dir / "f") && !is_same_file(f.fd(), dir / "g"));
  CHECK_EQ(code_of(f.fd(), dir / "f"), 0);
  CHECK_EQ(code_of(f.fd(), dir / "g"), ESTALE);
  CHECK_EQ(code_of(f.fd(), dir / "missing"), ENOENT);
  CHECK_EQ(code_of(f.fd(), dir / "g/within a file"), ENOENT);
  std::filesystem::remove(dir / "f");
  CHECK_EQ(code_of(f.fd(), dir / "f"), ENOENT);
  CHECK_THROWS(SystemFailure, check_named(f.fd(), dir / "f"), "was deleted");
  std::filesystem::rename(dir / "g", dir / "f");
  CHECK_THROWS(SystemFailure, check_named(f.fd(), dir / "f"), "another file has this path");
  CHECK_THROWS(SystemFailure, check_named(g.fd(), dir / "g"), "was moved");
}

}  // namespace
