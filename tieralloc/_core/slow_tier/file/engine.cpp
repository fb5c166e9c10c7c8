// engine.cpp: the list of fetch engines.
#include "slow_tier/file/engine.hpp"

#include <stdexcept>

#include "base/error.hpp"
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
    if (name != "auto") continue;
    try {
      return choice.make(target);
    } catch (const SystemFailure&) {
      // Not available here: try the next one.
    }
  }
  throw std::invalid_argument("engine: unknown; expected one of " + known + ", got '" +
                              std::string(name) + "'");
}

std::string fetch_engine_refusal(std::string_view name) {
  try {
    make_fetch_engine(name, FetchTarget{});
    return {};
  } catch (const SystemFailure& failure) {
    return failure.what();
  }
}

}  // namespace tieralloc
