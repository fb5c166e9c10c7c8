// page.cpp: layouts of pages, and damage that their checksums detect.
#include "slow_tier/page.hpp"

#include <cstring>
#include <random>
#include <vector>

#include "base/limits.hpp"
#include "check.hpp"

namespace {

using namespace tieralloc;

std::vector<std::byte> random_page(std::size_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> page(bytes);
  for (std::byte& byte : page) byte = static_cast<std::byte>(random());
  return page;
}

TEST(sealed_page_is_valid_at_its_place_only) {
  for (std::size_t bytes : {std::size_t{4096}, std::size_t{8192}, std::size_t{1} << 20}) {
    std::vector<std::byte> page = random_page(bytes, bytes);
    const std::vector<std::byte> before = page;
    CHECK(!is_valid_page(page.data(), bytes, 8192));
    seal_page(page.data(), bytes, 8192, 41);
    CHECK(is_valid_page(page.data(), bytes, 8192));
    CHECK_EQ(footer_of(page.data(), bytes).number, 2);
    CHECK_EQ(footer_of(page.data(), bytes).generation, 41);
    CHECK(std::memcmp(page.data(), before.data(), bytes - sizeof(PageFooter)) == 0);
    for (std::uint64_t offset : {0ull, 4096ull, 12288ull, 1ull << 40}) {
      CHECK(!is_valid_page(page.data(), bytes, offset));
    }
  }
}

TEST(page_of_zeros_is_valid) {
  const std::vector<std::byte> page(8192);
  CHECK(is_valid_page(page.data(), 4096, 4096));
  CHECK(is_valid_page(page.data(), 8192, 1 << 20));
}

TEST(every_flipped_bit_of_a_page_is_detected) {
  for (bool is_zero : {false, true}) {
    std::vector<std::byte> page(4096);
    if (!is_zero) {
      page = random_page(4096, 1);
      seal_page(page.data(), 4096, 4096, 7);
    }
    for (std::size_t at = 0; at < page.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        page[at] ^= static_cast<std::byte>(1 << bit);
        CHECK(!is_valid_page(page.data(), 4096, 4096));
        page[at] ^= static_cast<std::byte>(1 << bit);
      }
    }
    CHECK(is_valid_page(page.data(), 4096, 4096));
  }
}

TEST(mixture_of_two_writes_is_detected) {
  constexpr std::size_t kSector = 512;
  std::vector<std::byte> before = random_page(4096, 1);
  std::vector<std::byte> after = random_page(4096, 2);
  seal_page(before.data(), 4096, 4096, 1);
  seal_page(after.data(), 4096, 4096, 2);
  for (unsigned mixture = 0; mixture < 256; ++mixture) {
    std::vector<std::byte> page = before;
    for (std::size_t sector = 0; sector < 8; ++sector) {
      if ((mixture >> sector & 1) == 0) continue;
      std::memcpy(page.data() + sector * kSector, after.data() + sector * kSector, kSector);
    }
    CHECK_EQ(is_valid_page(page.data(), 4096, 4096), mixture == 0 || mixture == 255);
  }
}

TEST(no_row_straddles_pages) {
  for (std::uint64_t stride = 64; stride <= kMaxStride;
       stride += stride < 20000 ? 64 : kMaxStride / 64) {
    const auto pages = PageLayout::paged(static_cast<std::uint32_t>(stride));
    CHECK_EQ(pages.page_bytes % kPage, 0);
    CHECK(pages.has_footer);
    CHECK(pages.rows_per_page * stride + sizeof(PageFooter) <= pages.page_bytes);
    // No page is larger than one row needs, and no row more would fit into a page of 4 KiB.
    CHECK(pages.page_bytes == kPage || pages.rows_per_page == 1);
    CHECK(pages.page_bytes < stride + sizeof(PageFooter) + kPage);
    CHECK(pages.page_bytes > kPage ||
          (pages.rows_per_page + 1) * stride + sizeof(PageFooter) > kPage);
    const std::uint64_t base = 3 * kPage;
    std::uint64_t end = base;
    for (std::uint64_t row = 0; row < 200; ++row) {
      const RowAddress address = pages.address(base, row);
      CHECK_EQ((address.page - base) % pages.page_bytes, 0);
      CHECK(address.offset() >= end);
      CHECK(address.at + stride + sizeof(PageFooter) <= pages.page_bytes);
      end = address.offset() + stride;
      CHECK_EQ(pages.bytes(row + 1), address.page + pages.page_bytes - base);
    }
  }
  CHECK_EQ(PageLayout::paged(64).rows_per_page, 63);
  CHECK_EQ(PageLayout::paged(kMaxStride).page_bytes, kMaxStride + kPage);
}

TEST(dense_rows_are_their_own_pages) {
  const PageLayout dense = PageLayout::dense(192);
  CHECK_EQ(dense.address(640, 5).offset(), 640 + 5 * 192);
  CHECK_EQ(dense.address(640, 5).at, 0);
  CHECK_EQ(dense.bytes(7), 7 * 192);
  CHECK(!dense.has_footer);
}

}  // namespace
