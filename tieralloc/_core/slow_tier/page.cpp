// page.cpp: footers of pages.
#include "slow_tier/page.hpp"

#include <algorithm>
#include <cstring>

#include "base/crc32c.hpp"

namespace tieralloc {
namespace {

std::uint32_t page_checksum(const std::byte* page, std::size_t page_bytes) {
  return crc32c(page, page_bytes - sizeof(PageFooter::checksum));
}

}  // namespace

void seal_page(std::byte* page, std::size_t page_bytes, std::uint64_t offset,
               std::uint32_t generation) {
  PageFooter footer{offset / kPage, generation, 0};
  std::byte* place = page + page_bytes - sizeof footer;
  std::memcpy(place, &footer, sizeof footer);
  footer.checksum = page_checksum(page, page_bytes);
  std::memcpy(place, &footer, sizeof footer);
}

PageFooter footer_of(const std::byte* page, std::size_t page_bytes) {
  PageFooter footer;
  std::memcpy(&footer, page + page_bytes - sizeof footer, sizeof footer);
  return footer;
}

bool is_valid_page(const std::byte* page, std::size_t page_bytes, std::uint64_t offset) {
  const PageFooter footer = footer_of(page, page_bytes);
  if (footer.number == offset / kPage && footer.checksum == page_checksum(page, page_bytes)) {
    return true;
  }
  return std::all_of(page, page + page_bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace tieralloc
