// memory.cpp: regions, and the sizes of memory.
#include "base/memory.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "check.hpp"
#include "faults.hpp"

namespace {

using namespace tieralloc;

TEST(regions_are_zero_and_aligned) {
  for (std::size_t bytes :
       {std::size_t{1}, std::size_t{4096}, std::size_t{5000}, (std::size_t{2} << 20) - 1,
        std::size_t{2} << 20, (std::size_t{5} << 20) + 1}) {
    Region region(bytes, "test");
    CHECK(region.size() >= bytes && region.size() < bytes + 4096);
    const std::size_t alignment = bytes >= std::size_t{2} << 20 ? std::size_t{2} << 20 : 4096;
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(region.data()) % alignment, 0);
    CHECK(std::all_of(region.data(), region.data() + region.size(),
                      [](std::byte byte) { return byte == std::byte{0}; }));
    std::memset(region.data(), 1, region.size());
    CHECK(huge_page_bytes(region.data(), region.size()) <= region.size());
  }
}

TEST(empty_region_has_no_memory) {
  CHECK(Region().data() == nullptr);
  CHECK_EQ(Region(0, "test").size(), 0);
}

TEST(region_moves_with_its_memory) {
  Region first(4096, "test");
  std::byte* data = first.data();
  *data = std::byte{7};
  Region second(std::move(first));
  CHECK(first.data() == nullptr && second.data() == data);
  Region third(8192, "test");
  third = std::move(second);
  CHECK(third.data() == data && *third.data() == std::byte{7});
}

TEST(refused_region_reports_its_size) {
  CHECK_THROWS(MemoryShortage, Region(std::size_t{1} << 60, "fast tier's vectors"),
               "cannot map 1152921504606846976 bytes of memory for the fast tier's vectors: ");
  faults::Fault fault(faults::Call::map, ENOMEM);
  CHECK_THROWS(MemoryShortage, Region(10, "index"), "10 bytes of memory for the index");
}

TEST(forked_child_does_not_inherit_regions) {
  Region region(std::size_t{3} << 20, "test");
  std::memset(region.data(), 1, region.size());
  const pid_t child = fork();
  if (child == 0) {
    unsigned char resident = 0;
    _exit(mincore(region.data(), 4096, &resident) == -1 && errno == ENOMEM ? 0 : 1);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK(region.data()[0] == std::byte{1});
}

TEST(machine_reports_its_memory) {
  CHECK(available_memory() > std::uint64_t{1} << 20);
}

}  // namespace
