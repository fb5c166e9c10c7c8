// file_version_1.cpp: a file of the first version of the format is only read.
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/limits.hpp"
#include "check.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/pool_rows.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;
using namespace tieralloc::pool_rows;

struct HeaderV1 {
  char magic[8];
  std::uint32_t version, table_count;
  std::uint64_t generation, checksum;
};
struct RecordV1 {
  char name[192];
  std::uint64_t rows, offset;
  std::uint32_t dim, dtype, stride, reserved[9];
};

void make_file_of_version_1(const std::string& path, std::uint64_t rows, std::uint32_t stride) {
  std::vector<std::byte> block(sizeof(HeaderV1) + sizeof(RecordV1));
  HeaderV1 header{{'T', 'I', 'E', 'R', 'A', 'L', 'O', 'C'}, 1, 1, 5, 0};
  RecordV1 record{};
  std::strcpy(record.name, "old");
  record.rows = rows;
  record.offset = file_format::kDataOffset;
  record.dim = stride / 4;
  record.dtype = static_cast<std::uint32_t>(DType::float32);
  record.stride = stride;
  std::memcpy(block.data() + sizeof header, &record, sizeof record);
  std::memcpy(block.data(), &header, sizeof header);
  header.checksum = 0xCBF29CE484222325u;  // FNV-1a
  for (const std::byte byte : block) {
    header.checksum = (header.checksum ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3u;
  }
  std::memcpy(block.data(), &header, sizeof header);
  make_patterned_file(path, file_format::kDataOffset + round_up(rows * stride, kPage));
  for (const std::uint64_t at : {std::uint64_t{0}, file_format::kSuperblockBytes}) {
    overwrite(path, at, block);
  }
}

TEST(file_of_version_1_opens_to_read_only) {
  TempDir dir;
  for (const std::uint32_t stride : {64u, 192u, 4160u}) {
    make_file_of_version_1(dir / "f", 500, stride);
    for (const FileMode mode : {FileMode::update, FileMode::append}) {
      CHECK_THROWS(std::invalid_argument, FilePool::open_as(mode, dir / "f", {}),
                   "file format version 1 can only be read");
    }
    const auto pool = FilePool::open_as(FileMode::read, dir / "f", {});
    CHECK_EQ(pool->tables().size(), 1);
    const TableLayout table = pool->tables()[0];
    CHECK_EQ(table.name, "old");
    BufferPool buffers(1 << 20);
    FetchBatch batch(*pool, buffers, 500);
    for (std::uint64_t row = 0; row < 500; ++row) batch.add(table.address({row}), false);
    batch.read([](std::uint32_t, std::uint32_t) {});
    for (std::uint32_t row = 0; row < 500; ++row) {
      CHECK_EQ(batch.wait(row), 0);
      const std::uint64_t offset = file_format::kDataOffset + std::uint64_t{row} * stride;
      CHECK(is_pattern(batch.bytes(row), offset, stride));
    }
    CHECK_EQ(code_of([&] { update(*pool, table, {{1}}, 1); }), EACCES);
    CHECK_EQ(code_of([&] { load(*pool, table, 0, 1, 1); }), EACCES);
    CHECK_EQ(code_of([&] { pool->add_table(layout("new", 1, 64)); }), EACCES);
    pool->sync();
    pool->write_back();
    pool->commit();
    CHECK(!pool->has_updated_rows());
    CHECK_EQ(pool->updates().dirty_rows, 0);
    CHECK_EQ(pool->describe(table.offset + stride), "table 'old', rows 1 to 1");
  }
}

}  // namespace
