// file_format.cpp: encoded, decoded and damaged superblocks.
#include "slow_tier/file/file_format.hpp"

#include <cstring>
#include <random>

#include "check.hpp"
#include "slow_tier/file/order_area.hpp"

namespace {

using namespace tieralloc;
using file_format::decode;
using file_format::Directory;
using file_format::encode;

Directory some_directory(std::size_t tables) {
  Directory directory{.generation = 41,
                      .store_id = 0x1234567890ABCDEF,
                      .first_log = 7,
                      .last_log = 8,
                      .tables = {}};
  std::uint64_t end = file_format::kDataOffset;
  for (std::size_t i = 0; i < tables; ++i) {
    TableLayout table;
    table.name = i == 0 ? std::string(kMaxTableNameBytes, 'n') : "table " + std::to_string(i);
    table.rows = (std::uint64_t{1} << 30) + i;
    table.dim = static_cast<std::uint32_t>(64 + i);
    table.dtype = static_cast<DType>(1 + i % 4);
    table.stride = stride_of(table.dim, table.dtype);
    table.residency = static_cast<Residency>(i % 3);
    table.offset = end;
    table.pages = PageLayout::paged(table.stride);
    if (i % 5 == 4) {
      table.arranged_rows = 1000 * i;
      table.arranged_pages = 1000 * i;
    }
    end = file_format::table_end(table);
    directory.tables.push_back(table);
  }
  return directory;
}

bool same(const Directory& a, const Directory& b) {
  if (a.generation != b.generation || a.tables.size() != b.tables.size()) return false;
  if (a.store_id != b.store_id || a.first_log != b.first_log || a.last_log != b.last_log) {
    return false;
  }
  for (std::size_t i = 0; i < a.tables.size(); ++i) {
    const TableLayout& x = a.tables[i];
    const TableLayout& y = b.tables[i];
    if (x.name != y.name || x.rows != y.rows || x.dim != y.dim || x.dtype != y.dtype ||
        x.stride != y.stride || x.offset != y.offset || x.residency != y.residency ||
        x.arranged_rows != y.arranged_rows || x.arranged_pages != y.arranged_pages ||
        x.pages.page_bytes != y.pages.page_bytes ||
        x.pages.rows_per_page != y.pages.rows_per_page || !y.pages.has_footer) {
      return false;
    }
  }
  return true;
}

TEST(version_is_3_only_with_an_order) {
  for (const std::size_t tables : {1, 4, 5}) {
    const std::vector<std::byte> bytes = encode(some_directory(tables));
    CHECK_EQ(file_format::version_of(bytes.data(), bytes.size()), tables < 5 ? 2u : 3u);
  }
}

TEST(directory_round_trips) {
  for (std::size_t tables : {0, 1, 2, 100, 4095}) {
    const Directory written = some_directory(tables);
    std::vector<std::byte> bytes = encode(written);
    CHECK(bytes.size() <= file_format::kSuperblockBytes);
    Directory read;
    CHECK(decode(bytes.data(), bytes.size(), read));
    CHECK(same(written, read));
    bytes.resize(file_format::kSuperblockBytes);  // what lies behind it does not matter
    CHECK(decode(bytes.data(), bytes.size(), read));
    CHECK(same(written, read));
  }
}

TEST(too_many_tables_are_refused) {
  CHECK_THROWS(std::invalid_argument, encode(some_directory(4096)),
               "expected at most 4095 in a file");
}

TEST(truncated_directory_is_invalid) {
  const std::vector<std::byte> bytes = encode(some_directory(2));
  Directory untouched = some_directory(1);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(!decode(bytes.data(), size, untouched));
  }
  CHECK(same(untouched, some_directory(1)));
}

bool accepted(const std::vector<std::byte>& bytes) {
  Directory directory;
  return decode(bytes.data(), bytes.size(), directory);
}

TEST(every_flipped_bit_is_detected) {
  std::vector<std::byte> bytes = encode(some_directory(2));
  CHECK(accepted(bytes));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<std::byte>(1 << bit);
      CHECK(!accepted(bytes));
      bytes[at] ^= static_cast<std::byte>(1 << bit);
    }
  }
  CHECK(accepted(bytes));
}

TEST(noise_is_an_invalid_directory) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(4096);
  for (int i = 0; i < 200; ++i) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    if (i % 3 == 0) std::memcpy(bytes.data(), "TIERALOC\1\0\0\0", 12);
    if (i % 3 == 1) std::memcpy(bytes.data(), "TIERALOC\2\0\0\0", 12);
    CHECK(!accepted(bytes));
  }
}

TEST(other_version_is_reported_and_not_read) {
  std::vector<std::byte> bytes = encode(some_directory(1));
  CHECK_EQ(file_format::version_of(bytes.data(), bytes.size()), file_format::kSecondVersion);
  bytes[8] = static_cast<std::byte>(file_format::kVersion + 1);
  CHECK_EQ(file_format::version_of(bytes.data(), bytes.size()), file_format::kVersion + 1);
  CHECK(!accepted(bytes));
  bytes[0] = std::byte{0};
  CHECK_EQ(file_format::version_of(bytes.data(), bytes.size()), 0);
}

TEST(impossible_tables_are_invalid_despite_checksum) {
  const auto made = [](auto change) {
    Directory directory = some_directory(2);
    change(directory.tables[1]);
    return accepted(encode(directory));
  };
  CHECK(made([](TableLayout&) {}));
  CHECK(!made([](TableLayout& table) { table.name = ""; }));
  CHECK(!made(
      [](TableLayout& table) { table.name = std::string(kMaxTableNameBytes, 'n'); }));  // taken
  CHECK(!made([](TableLayout& table) { table.rows = 0; }));
  CHECK(!made([](TableLayout& table) { table.rows = ~std::uint64_t{0}; }));
  CHECK(!made([](TableLayout& table) { table.dim = 0; }));
  CHECK(!made([](TableLayout& table) { table.dim = kMaxDim + 1; }));
  CHECK(!made([](TableLayout& table) { table.dtype = static_cast<DType>(0); }));
  CHECK(!made([](TableLayout& table) { table.dtype = static_cast<DType>(5); }));
  CHECK(!made([](TableLayout& table) { table.stride += 64; }));
  CHECK(!made([](TableLayout& table) { table.stride = 0; }));
  CHECK(!made([](TableLayout& table) { table.stride = ~63u; }));  // its page would have 2**32 bytes
  CHECK(!made([](TableLayout& table) { table.offset = 0; }));
  CHECK(!made([](TableLayout& table) { table.offset -= 4096; }));  // into the one before
  CHECK(!made([](TableLayout& table) { table.offset += 64; }));    // no page begins there
  CHECK(!made([](TableLayout& table) { table.offset += 1; }));
  CHECK(!made([](TableLayout& table) { table.offset = ~std::uint64_t{63}; }));
}

}  // namespace
