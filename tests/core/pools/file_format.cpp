// file_format.cpp: superblocks written and read back, and what damage does to them.
#include "pools/file_format.hpp"

#include <cstring>
#include <random>

#include "check.hpp"

namespace {

using namespace tieralloc;
using file_format::decode;
using file_format::Directory;
using file_format::encode;

Directory some_directory(std::size_t tables) {
  Directory directory{.generation = 41, .tables = {}};
  for (std::size_t i = 0; i < tables; ++i) {
    TableLayout table;
    table.name =
        i == 0 ? std::string(file_format::kMaxTableName, 'n') : "table " + std::to_string(i);
    table.rows = (std::uint64_t{1} << 40) + i;
    table.dim = static_cast<std::uint32_t>(64 + i);
    table.dtype = static_cast<DType>(1 + i % 4);
    table.stride = static_cast<std::uint32_t>(256 + 64 * i);
    table.offset = file_format::kDataOffset + 4096 * i;
    directory.tables.push_back(table);
  }
  return directory;
}

bool same(const Directory& a, const Directory& b) {
  if (a.generation != b.generation || a.tables.size() != b.tables.size()) return false;
  for (std::size_t i = 0; i < a.tables.size(); ++i) {
    const TableLayout& x = a.tables[i];
    const TableLayout& y = b.tables[i];
    if (x.name != y.name || x.rows != y.rows || x.dim != y.dim || x.dtype != y.dtype ||
        x.stride != y.stride || x.offset != y.offset) {
      return false;
    }
  }
  return true;
}

TEST(a_directory_comes_back_as_it_was) {
  for (std::size_t tables : {0, 1, 2, 100, 4095}) {
    const Directory written = some_directory(tables);
    std::vector<std::byte> bytes = encode(written);
    CHECK(bytes.size() <= file_format::kSuperblockBytes);
    Directory read;
    CHECK(decode(bytes.data(), bytes.size(), "f", read));
    CHECK(same(written, read));
    bytes.resize(file_format::kSuperblockBytes);  // what lies behind it does not matter
    CHECK(decode(bytes.data(), bytes.size(), "f", read));
    CHECK(same(written, read));
  }
}

TEST(more_tables_than_fit_are_refused) {
  CHECK_THROWS(std::invalid_argument, encode(some_directory(4096)), "at most 4095 tables");
}

TEST(a_directory_cut_short_anywhere_is_not_valid) {
  const std::vector<std::byte> bytes = encode(some_directory(2));
  Directory untouched = some_directory(1);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK(!decode(bytes.data(), size, "f", untouched));
  }
  CHECK(same(untouched, some_directory(1)));
}

/// Whether the bytes are taken for a directory; a version that seems newer is no directory either.
bool accepted(const std::vector<std::byte>& bytes) {
  Directory directory;
  try {
    return decode(bytes.data(), bytes.size(), "f", directory);
  } catch (const std::invalid_argument&) {
    return false;
  }
}

TEST(every_bit_flipped_is_noticed) {
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

TEST(noise_is_no_directory) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(4096);
  for (int i = 0; i < 200; ++i) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    if (i % 2 == 0) std::memcpy(bytes.data(), "TIERALOC\1\0\0\0", 12);
    CHECK(!accepted(bytes));
  }
}

TEST(a_newer_version_is_named_with_the_file) {
  std::vector<std::byte> bytes = encode(some_directory(1));
  bytes[8] = static_cast<std::byte>(file_format::kVersion + 1);
  Directory directory;
  CHECK_THROWS(std::invalid_argument, decode(bytes.data(), bytes.size(), "/a/file", directory),
               "/a/file: file format version 2, this tieralloc reads up to version 1");
}

}  // namespace
