// fuzz.cpp: superblocks, pages and redo logs with changed bytes; half of them with valid checksums.
//
// TIERALLOC_STRESS=100 with ONLY=fuzzed reads ten million of them.
#include <cstring>
#include <fstream>
#include <random>

#include "base/crc32c.hpp"
#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/file/file_format.hpp"
#include "slow_tier/file/order_area.hpp"
#include "slow_tier/file/redo_log.hpp"
#include "slow_tier/random_order.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Bytes = std::vector<std::byte>;
using Random = std::mt19937_64;

constexpr std::uint64_t kNumbers[] = {0,           1,       0x7F,       0xFF,  0xFFFF'FFFF,
                                      0x8000'0000, 1 << 30, 1ull << 48, ~0ull, 1ull << 63};

void put_number(Bytes& bytes, std::size_t at, std::uint64_t number, std::size_t width) {
  std::memcpy(bytes.data() + at, &number, std::min(width, bytes.size() - at));
}

/// Changes bits, numbers and runs of bytes; most of them early ones.
void change(Bytes& bytes, Random& random) {
  do {
    const double part = std::uniform_real_distribution<>()(random);
    const auto at = static_cast<std::size_t>(part * part * static_cast<double>(bytes.size()));
    switch (random() % 4) {
      case 0:
        bytes[at] ^= std::byte{1} << random() % 8;
        break;
      case 1:
        put_number(bytes, at & ~std::size_t{7}, kNumbers[random() % std::size(kNumbers)], 8);
        break;
      case 2:
        put_number(bytes, at & ~std::size_t{3}, random() % 1000, 4);
        break;
      default: {
        const std::size_t size = std::min<std::size_t>(random() % 64, bytes.size() - at);
        const std::size_t from = random() % (bytes.size() - size + 1);
        std::memmove(bytes.data() + at, bytes.data() + from, size);
      }
    }
  } while (random() % 3 == 0);
}

/// Sets a CRC-32C at `at` of the bytes from `begin` on, itself as zeros.
void repair(Bytes& bytes, std::size_t at, std::size_t begin) {
  put_number(bytes, at, 0, 4);
  put_number(bytes, at, crc32c(bytes.data() + begin, bytes.size() - begin), 4);
}

std::vector<TableLayout> some_tables(Random& random) {
  std::vector<TableLayout> tables;
  std::uint64_t offset = file_format::kDataOffset;
  for (std::size_t i = 0; i <= random() % 4; ++i) {
    TableLayout table{.name = "t" + std::to_string(i), .rows = 1 + random() % 500};
    table.dim = static_cast<std::uint32_t>(1 + random() % 300);
    table.stride = stride_of(table.dim, table.dtype);
    table.offset = offset;
    table.pages = PageLayout::paged(table.stride);
    if (random() % 2 == 0) arrange_randomly(table, random);
    offset = file_format::table_end(table);
    tables.push_back(table);
  }
  return tables;
}

TEST(fuzzed_superblock_is_refused_or_describes_tables_that_can_be) {
  constexpr std::size_t kChecksumAt = 64;
  std::size_t accepted = 0;
  for (std::size_t i = 0; i < repeated(60'000); ++i) {
    Random random(i);
    const Bytes valid = file_format::encode({.generation = 3, .tables = some_tables(random)});
    Bytes bytes = valid;
    change(bytes, random);
    const bool repaired = random() % 2 == 0;
    if (repaired) repair(bytes, kChecksumAt, 0);
    file_format::Directory read;
    if (!file_format::decode(bytes.data(), bytes.size(), read)) continue;
    CHECK(repaired || bytes == valid);
    ++accepted;
    std::uint64_t end = file_format::kDataOffset;
    for (const TableLayout& table : read.tables) {
      CHECK(table.rows > 0 && table.offset >= end && table.offset % kPage == 0);
      CHECK(table.arranged_rows <= table.rows && table.arranged_pages <= table.arranged_rows);
      end = file_format::table_end(table);
      CHECK(end > table.offset);
    }
    CHECK_EQ(read.end(), end);
  }
  CHECK(accepted > 0);
}

TEST(fuzzed_page_is_damaged) {
  for (std::size_t i = 0; i < repeated(20'000); ++i) {
    Random random(i);
    Bytes valid(kPage * (1 + random() % 2));
    for (std::size_t at = 0; at < valid.size(); at += 64) put_number(valid, at, random(), 8);
    const std::uint64_t offset = kPage * (random() % 1000 + 1);
    seal_page(valid.data(), valid.size(), offset, 7);
    Bytes bytes = valid;
    change(bytes, random);
    CHECK_EQ(is_valid_page(bytes.data(), bytes.size(), offset), bytes == valid);
    CHECK(!is_valid_page(valid.data(), valid.size(), offset + kPage));
  }
}

/// A log file: updates of numbered rows, then intents if it is sealed.
struct LogFile {
  explicit LogFile(Random& random) : tables(some_tables(random)) {
    RedoLog log({dir / "log-", 77, 0600}, [](std::uint64_t, std::uint64_t, std::uint64_t) {});
    for (std::size_t call = 0; call < 1 + random() % 6; ++call) {
      const auto number = static_cast<std::uint32_t>(random() % tables.size());
      std::vector<TableRow> rows(1 + random() % 20);
      for (TableRow& row : rows) row.value = random() % tables[number].rows;
      log.update(number, tables[number], rows,
                 Bytes(rows.size() * tables[number].row_bytes(), std::byte{1}).data());
      if (random() % 2 == 0) log.sync();
    }
    if (random() % 2 == 0) {
      log.seal();
      const PageFooter footer{};
      log.add_intents({&footer, 1});
    }
    std::ifstream file(dir / "log-1", std::ios::binary);
    for (char byte; file.get(byte);) bytes.push_back(static_cast<std::byte>(byte));
    while (!bytes.empty() && bytes.back() == std::byte{0}) bytes.pop_back();
  }

  /// Repairs the checksums of all frames that can be found.
  static void repair_frames(Bytes& bytes) {
    for (std::size_t at = 0; at + sizeof(FrameHeader) <= bytes.size();) {
      FrameHeader header;
      std::memcpy(&header, bytes.data() + at, sizeof header);
      if (header.bytes < sizeof header || header.bytes > bytes.size() - at) return;
      const std::uint32_t checksum = crc32c(bytes.data() + at + 8, header.bytes - 8);
      put_number(bytes, at + 4, checksum, 4);
      at += header.bytes;
    }
  }

  TempDir dir;
  std::vector<TableLayout> tables;
  Bytes bytes;
};

TEST(fuzzed_log_is_refused_or_has_rows_of_its_tables) {
  std::size_t accepted = 0, refused = 0;
  for (std::size_t i = 0; i < repeated(40); ++i) {
    Random random(i);
    LogFile file(random);
    for (int variant = 0; variant < 50; ++variant) {
      Bytes bytes = file.bytes;
      change(bytes, random);
      const bool repaired = random() % 2 == 0;
      if (repaired) LogFile::repair_frames(bytes);
      std::ofstream(file.dir / "log-1", std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      RedoLog log({file.dir / "log-", 77, 0600},
                  [](std::uint64_t, std::uint64_t, std::uint64_t) {});
      try {
        log.replay(1, 1, file.tables, random() % 2 == 0);
      } catch (const std::invalid_argument&) {
        ++refused;
        continue;
      }
      ++accepted;
      for (const TableLayout& table : file.tables) {
        Bytes value(table.stride);
        for (std::uint64_t row = 0; row < table.rows; ++row) {
          if (!log.find(table.address({row}).offset(), value) || repaired) continue;
          for (std::size_t at = 0; at < table.row_bytes(); ++at) CHECK(value[at] == std::byte{1});
        }
      }
    }
  }
  CHECK(accepted > 0 && refused > 0);
}

}  // namespace
