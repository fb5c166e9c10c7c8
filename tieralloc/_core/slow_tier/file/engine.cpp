// engine.cpp: the list of fetch engines.
#include "slow_tier/file/engine.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "base/error.hpp"
#include "base/memory.hpp"
#include "base/types.hpp"
#include "slow_tier/file/fault_engine.hpp"
#include "slow_tier/file/pread_engine.hpp"
#include "slow_tier/file/uring_engine.hpp"

namespace tieralloc {
namespace {

using Make = std::unique_ptr<FetchEngine> (*)(const FetchTarget&);

template <typename Engine>
std::unique_ptr<FetchEngine> make(const FetchTarget& target) {
  return std::make_unique<Engine>(target);
}

struct Choice {
  const char* name;
  Make make;
};

constexpr Choice kEngines[] = {
    {"io_uring", make<UringEngine>}, {"pread", make<PreadEngine>}, {"mmap", make<FaultEngine>}};

/// An engine that works, by a batch of two reads: a single read may take a path of its own.
std::unique_ptr<FetchEngine> make_tried(std::string_view name, const FetchTarget& target) {
  auto engine = make_fetch_engine(name, target);
  const Region memory(2 * kPage, "trial read");
  std::array<ReadOp, 2> ops;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    ops[i].length = ops[i].slack = kPage;  // the file may be shorter
    ops[i].buffer = memory.data() + i * kPage;
  }
  NoListener listener;
  engine->read(ops, listener);
  for (const ReadOp& op : ops) {
    const int code = -op.wait();
    if (code == 0) continue;
    throw SystemFailure(code,
                        std::string(name) + " cannot read a file here: " + std::strerror(code), {});
  }
  return engine;
}

}  // namespace

std::vector<std::string> fetch_engine_names() {
  std::vector<std::string> names;
  for (const Choice& choice : kEngines) names.emplace_back(choice.name);
  return names;
}

std::unique_ptr<FetchEngine> make_fetch_engine(std::string_view name, const FetchTarget& target) {
  std::string known = "auto";
  for (const Choice& choice : kEngines) {
    known += std::string(", ") + choice.name;
    if (name == choice.name) return choice.make(target);
  }
  throw std::invalid_argument("engine: unknown; expected one of " + known + ", got '" +
                              std::string(name) + "'");
}

std::unique_ptr<FetchEngine> choose_fetch_engine(std::string_view name, const FetchTarget& target) {
  if (name != "auto") {
    try {
      return make_tried(name, target);
    } catch (const SystemFailure& failure) {
      throw SystemFailure(failure.code,
                          failure.what() + std::string("; expected an engine that works here: "
                                                       "'auto' selects one, `tieralloc doctor` "
                                                       "lists them"),
                          failure.path);
    }
  }
  std::optional<SystemFailure> refusal;
  for (const Choice& choice : kEngines) {
    try {
      return make_tried(choice.name, target);
    } catch (const SystemFailure& failure) {
      refusal = failure;  // not available here: try the next one
    }
  }
  throw *refusal;
}

std::string fetch_engine_refusal(std::string_view name) {
  const struct Sample {
    int fd = memfd_create("engine trial", MFD_CLOEXEC);
    ~Sample() {
      if (fd >= 0) close(fd);
    }
  } sample;
  try {
    if (sample.fd < 0 || ftruncate(sample.fd, kPage) != 0) {
      throw SystemFailure(errno, std::string("no file for a trial: ") + std::strerror(errno), {});
    }
    make_tried(name, FetchTarget{.file = {.fd = sample.fd}});
    return {};
  } catch (const SystemFailure& failure) {
    return failure.what();
  }
}

std::string describe_engine(const FetchEngine& engine, const std::string& refusal) {
  if (engine.direct()) return std::string(engine.name()) + " (O_DIRECT)";
  const std::string reason = refusal.empty() ? "" : ": " + refusal;
  return std::string(engine.name()) + " (buffered" + reason + ")";
}

}  // namespace tieralloc
