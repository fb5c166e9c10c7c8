// file_format.cpp: encoding and decoding of superblocks.
#include "slow_tier/file/file_format.hpp"

#include <bit>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_set>

namespace tieralloc::file_format {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

constexpr char kMagic[8] = {'T', 'I', 'E', 'R', 'A', 'L', 'O', 'C'};

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t table_count;
  std::uint64_t generation;
  std::uint64_t checksum;  ///< of header and directory, this field being 0
};
static_assert(sizeof(Header) == 32);

struct Record {
  char name[kMaxTableNameBytes + 1];
  std::uint64_t rows;
  std::uint64_t offset;
  std::uint32_t dim;
  std::uint32_t dtype;
  std::uint32_t stride;
  std::uint32_t reserved[9];
};
static_assert(sizeof(Record) == 256);

static_assert(kMaxStride == stride_of(kMaxDim, DType::float64));
static_assert(kMaxFileTables == (kSuperblockBytes - sizeof(Header)) / sizeof(Record));

/// FNV-1a (Fowler, Noll, Vo), over 64 bits.
std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (std::byte byte : bytes) hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3u;
  return hash;
}

std::uint64_t superblock_checksum(const std::byte* superblock, std::size_t size) {
  std::vector<std::byte> copy(superblock, superblock + size);
  for (std::size_t i = 0; i < sizeof(Header::checksum); ++i) {
    copy[offsetof(Header, checksum) + i] = std::byte{0};
  }
  return checksum_of(copy);
}

Record record_of(const TableLayout& table) {
  Record record{};
  std::memcpy(record.name, table.name.data(), table.name.size());
  record.rows = table.rows;
  record.offset = table.offset;
  record.dim = table.dim;
  record.dtype = static_cast<std::uint32_t>(table.dtype);
  record.stride = table.stride;
  return record;
}

TableLayout layout_of(const Record& record) {
  TableLayout table;
  table.name.assign(record.name, strnlen(record.name, sizeof record.name));
  table.rows = record.rows;
  table.offset = record.offset;
  table.dim = record.dim;
  table.dtype = static_cast<DType>(record.dtype);
  table.stride = record.stride;
  return table;
}

/// Whether create_table could have made the tables: the checksum proves integrity, not origin.
bool is_consistent(const std::vector<TableLayout>& tables) {
  std::unordered_set<std::string> names;
  std::uint64_t end = kDataOffset;
  for (const TableLayout& table : tables) {  // in order of creation and of offsets
    const auto dtype = static_cast<std::uint32_t>(table.dtype);
    if (table.name.empty() || table.name.size() > kMaxTableNameBytes) return false;
    if (!names.insert(table.name).second) return false;
    if (dtype < 1 || dtype > 4 || table.dim == 0 || table.dim > kMaxDim) return false;
    if (table.stride != stride_of(table.dim, table.dtype)) return false;
    if (table.rows == 0 || table.rows > kMaxTableBytes / table.stride) return false;
    if (table.offset < end || table.offset > kMaxTableBytes) return false;
    if (table.offset % kCacheLine != 0) return false;
    end = table.offset + table.rows * table.stride;
  }
  return true;
}

}  // namespace

std::vector<std::byte> encode(const Directory& directory) {
  if (directory.tables.size() > kMaxFileTables) {
    throw std::invalid_argument("create_table: too many tables; expected at most " +
                                std::to_string(kMaxFileTables) + " in a file, got " +
                                std::to_string(directory.tables.size()));
  }
  const std::size_t size = sizeof(Header) + directory.tables.size() * sizeof(Record);
  std::vector<std::byte> bytes(size);
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.table_count = static_cast<std::uint32_t>(directory.tables.size());
  header.generation = directory.generation;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::byte* place = bytes.data() + sizeof header;
  for (const TableLayout& table : directory.tables) {
    const Record record = record_of(table);
    std::memcpy(place, &record, sizeof record);
    place += sizeof record;
  }
  header.checksum = superblock_checksum(bytes.data(), size);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::uint32_t version_of(const std::byte* superblock, std::size_t size) {
  Header header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, superblock, sizeof header);
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 ? header.version : 0;
}

bool decode(const std::byte* superblock, std::size_t size, Directory& directory) {
  if (version_of(superblock, size) != kVersion) return false;
  Header header;
  std::memcpy(&header, superblock, sizeof header);
  if (header.table_count > kMaxFileTables) return false;
  const std::size_t length = sizeof header + header.table_count * sizeof(Record);
  if (length > size || superblock_checksum(superblock, length) != header.checksum) return false;
  std::vector<TableLayout> tables;
  for (std::uint32_t i = 0; i < header.table_count; ++i) {
    Record record;
    std::memcpy(&record, superblock + sizeof header + i * sizeof record, sizeof record);
    tables.push_back(layout_of(record));
  }
  if (!is_consistent(tables)) return false;
  directory = {header.generation, std::move(tables)};
  return true;
}

}  // namespace tieralloc::file_format
