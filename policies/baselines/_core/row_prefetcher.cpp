#include "row_prefetcher.hpp"

#include <stdexcept>
#include <string>

namespace tieralloc::baselines {

void check_setting(const char* name, std::uint64_t value, std::uint64_t min, std::uint64_t max) {
  if (value >= min && value <= max) return;
  throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected " +
                              std::to_string(min) + " to " + std::to_string(max));
}

void check_share(const char* name, double value) {
  if (value >= 0 && value <= 1) return;
  throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) +
                              ", expected 0 to 1");
}

}  // namespace tieralloc::baselines
