// main.cpp: runs all tests, or the tests with an argument in their name; -v names each one.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>

#include "check.hpp"
#include "support.hpp"

namespace {

// A test that hangs fails with its name. Far above the time of any test, sanitizers included.
constexpr unsigned kHangSeconds = 240;
const char* running = "";

[[noreturn]] void end_with(const char* what) {
  const char* parts[] = {what, running, "\n"};
  for (const char* part : parts) (void)!write(2, part, std::strlen(part));
  signal(SIGABRT, SIG_DFL);
  std::abort();
}

void on_hang(int) {
  end_with("HANGS ");
}

void on_terminate() {
  end_with("TERMINATES ");
}

bool wanted(const char* name, int argc, char** argv) {
  bool any = false;
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] == '-') continue;
    any = true;
    if (std::strstr(name, argv[i]) != nullptr) return true;
  }
  return !any;
}

enum class Outcome { passed, failed, skipped };

Outcome run(const check::Test& test) {
  running = test.name;
  alarm(static_cast<unsigned>(stressed(kHangSeconds)));
  try {
    test.body();
    return Outcome::passed;
  } catch (const check::Skipped& skipped) {
    std::printf("skip %s: %s\n", test.name, skipped.reason.c_str());
    return Outcome::skipped;
  } catch (const check::Failed& failed) {
    std::printf("FAIL %s\n     %s\n", test.name, failed.message.c_str());
  } catch (const std::exception& error) {
    std::printf("FAIL %s\n     throws: %s\n", test.name, error.what());
  }
  return Outcome::failed;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  signal(SIGALRM, on_hang);
  std::set_terminate(on_terminate);
  const bool verbose = argc > 1 && std::string_view(argv[1]) == "-v";
  int count[3] = {};
  for (const check::Test& test : check::tests()) {
    if (!wanted(test.name, argc, argv)) continue;
    const auto began = std::chrono::steady_clock::now();
    const Outcome outcome = run(test);
    ++count[static_cast<int>(outcome)];
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    if (verbose) std::printf("%8.2f s  %s\n", took.count(), test.name);
  }
  std::printf("%d passed, %d failed, %d skipped\n", count[0], count[1], count[2]);
  return count[1] == 0 && count[0] + count[2] > 0 ? 0 : 1;
}
