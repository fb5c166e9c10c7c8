// file_format.cpp: encoding and decoding of superblocks.
#include "slow_tier/file/file_format.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/crc32c.hpp"
#include "slow_tier/file/order_area.hpp"

namespace tieralloc::file_format {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

constexpr char kMagic[8] = {'T', 'I', 'E', 'R', 'A', 'L', 'O', 'C'};

struct HeaderV1 {
  char magic[8];
  std::uint32_t version;
  std::uint32_t table_count;
  std::uint64_t generation;
  std::uint64_t checksum;  ///< FNV-1a of header and directory, this field being 0
};
static_assert(sizeof(HeaderV1) == 32);

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t table_count;
  std::uint64_t generation;
  std::uint64_t store_id;
  std::uint64_t first_log;
  std::uint64_t last_log;
  std::uint64_t fresh_begin;
  std::uint64_t fresh_end;
  std::uint32_t checksum;  ///< CRC-32C of header and directory, this field being 0
  std::uint32_t alignment;
  std::uint64_t delta_version;  ///< 0 before version 5
  std::uint32_t reserved[8];
};
static_assert(sizeof(Header) == 112);

struct Record {
  char name[kMaxTableNameBytes + 1];
  std::uint64_t rows;
  std::uint64_t offset;
  std::uint32_t dim;
  std::uint32_t dtype;
  std::uint32_t stride;
  std::uint32_t residency;       ///< 0 in files of earlier releases
  std::uint64_t arranged_rows;   ///< 0 before version 3
  std::uint64_t arranged_pages;  ///< 0 before version 3
  std::uint32_t reserved[4];
};
static_assert(sizeof(Record) == 256);

static_assert(kMaxStride == stride_of(kMaxDim, DType::float64));
static_assert(sizeof(Header) + kMaxFileTables * sizeof(Record) <= kSuperblockBytes);

/// FNV-1a (Fowler, Noll, Vo), over 64 bits, of a superblock of version 1.
std::uint64_t checksum_v1(std::span<const std::byte> superblock) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (std::size_t i = 0; i < superblock.size(); ++i) {
    const std::size_t at = i - offsetof(HeaderV1, checksum);
    const std::byte byte = at < sizeof(HeaderV1::checksum) ? std::byte{0} : superblock[i];
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3u;
  }
  return hash;
}

std::uint32_t checksum_v2(std::span<const std::byte> superblock) {
  std::vector<std::byte> copy(superblock.begin(), superblock.end());
  std::memset(copy.data() + offsetof(Header, checksum), 0, sizeof(Header::checksum));
  return crc32c(copy.data(), copy.size());
}

Record record_of(const TableLayout& table) {
  Record record{};
  std::memcpy(record.name, table.name.data(), table.name.size());
  record.rows = table.rows;
  record.offset = table.offset;
  record.dim = table.dim;
  record.dtype = static_cast<std::uint32_t>(table.dtype);
  record.stride = table.stride;
  record.residency = static_cast<std::uint32_t>(table.residency);
  record.arranged_rows = table.arranged_rows;
  record.arranged_pages = table.arranged_pages;
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
  table.residency = static_cast<Residency>(record.residency);
  table.arranged_rows = record.arranged_rows;
  table.arranged_pages = record.arranged_pages;
  return table;
}

/// Rows of a table of kMaxTableBytes.
std::uint64_t max_rows(const PageLayout& pages) {
  return kMaxTableBytes / pages.page_bytes * pages.rows_per_page;
}

/// The least version that has all properties of the file.
std::uint32_t version_for(const Directory& directory) {
  const std::vector<TableLayout>& tables = directory.tables;
  const bool has_order = std::any_of(tables.begin(), tables.end(), [](const TableLayout& table) {
    return table.arranged_pages > 0;
  });
  const bool ascends = std::is_sorted(
      tables.begin(), tables.end(),
      [](const TableLayout& a, const TableLayout& b) { return a.offset < b.offset; });
  if (directory.has_deltas) return kVersion;
  if (!ascends) return kReuseVersion;
  return has_order ? kOrderVersion : kSecondVersion;
}

bool is_possible_order(const TableLayout& table, std::uint32_t version) {
  const std::uint64_t rows = table.arranged_rows;
  const std::uint64_t pages = table.arranged_pages;
  if (rows == 0 && pages == 0) return true;
  return version >= kOrderVersion && pages <= rows && rows <= table.rows &&
         rows <= std::numeric_limits<std::uint32_t>::max() && table.pages.num_pages(rows) <= pages;
}

/// Whether no table overlaps another one. Before version 4 their offsets ascend.
bool have_space(const std::vector<TableLayout>& tables, std::uint32_t version) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> spans;
  for (const TableLayout& table : tables) spans.emplace_back(table.offset, table_end(table));
  if (version >= kReuseVersion) std::sort(spans.begin(), spans.end());
  std::uint64_t end = kDataOffset;
  for (const auto& [offset, table_end] : spans) {
    if (offset < end) return false;
    end = table_end;
  }
  return true;
}

/// Sets the pages of the tables. False if create_table could not have made the tables: the checksum
/// proves integrity, not origin.
bool complete(std::vector<TableLayout>& tables, std::uint32_t version) {
  std::unordered_set<std::string> names;
  for (TableLayout& table : tables) {
    const auto dtype = static_cast<std::uint32_t>(table.dtype);
    if (table.name.empty() || table.name.size() > kMaxTableNameBytes) return false;
    if (!names.insert(table.name).second) return false;
    if (dtype < 1 || dtype > kNumDTypes || table.dim == 0 || table.dim > kMaxDim) return false;
    if (table.stride != stride_of(table.dim, table.dtype)) return false;
    if (table.residency > Residency::never) return false;
    table.pages = version == kFirstVersion ? PageLayout::dense(table.stride)
                                           : PageLayout::paged(table.stride);
    if (table.rows == 0 || table.rows > max_rows(table.pages)) return false;
    if (table.offset > kMaxTableBytes) return false;
    if (table.offset % (table.pages.has_footer ? kPage : kCacheLine) != 0) return false;
    if (!is_possible_order(table, version)) return false;
  }
  return have_space(tables, version);
}

}  // namespace

std::uint64_t Directory::end() const {
  std::uint64_t end = kDataOffset;
  for (const TableLayout& table : tables) end = std::max(end, table_end(table));
  return end;
}

std::vector<TableLayout> Directory::by_offset() const {
  std::vector<TableLayout> sorted = tables;
  std::sort(sorted.begin(), sorted.end(),
            [](const TableLayout& a, const TableLayout& b) { return a.offset < b.offset; });
  return sorted;
}

std::vector<std::byte> encode(const Directory& directory) {
  if (directory.tables.size() > kMaxFileTables) {
    throw std::invalid_argument("create_table: too many tables; expected at most " +
                                std::to_string(kMaxFileTables) + " in a file, got " +
                                std::to_string(directory.tables.size()));
  }
  std::vector<std::byte> bytes(sizeof(Header) + directory.tables.size() * sizeof(Record));
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = version_for(directory);
  header.table_count = static_cast<std::uint32_t>(directory.tables.size());
  header.generation = directory.generation;
  header.store_id = directory.store_id;
  header.first_log = directory.first_log;
  header.last_log = directory.last_log;
  header.fresh_begin = directory.fresh_begin;
  header.fresh_end = directory.fresh_end;
  header.delta_version = directory.delta_version;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::byte* place = bytes.data() + sizeof header;
  for (const TableLayout& table : directory.tables) {
    const Record record = record_of(table);
    std::memcpy(place, &record, sizeof record);
    place += sizeof record;
  }
  header.checksum = checksum_v2(bytes);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::uint32_t version_of(const std::byte* superblock, std::size_t size) {
  HeaderV1 header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, superblock, sizeof header);
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 ? header.version : 0;
}

namespace {

/// Copies the header into `directory`, and returns the directory's records if they are valid.
template <typename Header, typename Checksum>
std::span<const std::byte> checked_records(std::span<const std::byte> superblock, Checksum checksum,
                                           Header& header) {
  if (superblock.size() < sizeof header) return {};
  std::memcpy(&header, superblock.data(), sizeof header);
  const std::size_t length = sizeof header + header.table_count * sizeof(Record);
  if (header.table_count > kMaxFileTables || length > superblock.size()) return {};
  if (checksum(superblock.first(length)) != header.checksum) return {};
  return superblock.first(length).subspan(sizeof header);
}

/// Reads the header and the tables of a superblock with a valid checksum; else returns false.
bool decode_records(const std::byte* superblock, std::size_t size, Directory& decoded) {
  decoded = {.version = version_of(superblock, size), .tables = {}};
  std::span<const std::byte> records;
  HeaderV1 first;
  Header header;
  switch (decoded.version) {
    case kFirstVersion:
      records = checked_records({superblock, size}, checksum_v1, first);
      decoded.generation = first.generation;
      break;
    case kSecondVersion:
    case kOrderVersion:
    case kReuseVersion:
    case kVersion:
      records = checked_records({superblock, size}, checksum_v2, header);
      decoded.generation = header.generation;
      decoded.store_id = header.store_id;
      decoded.first_log = header.first_log;
      decoded.last_log = header.last_log;
      decoded.fresh_begin = header.fresh_begin;
      decoded.fresh_end = header.fresh_end;
      decoded.has_deltas = decoded.version == kVersion;
      decoded.delta_version = header.delta_version;
      break;
    default:
      return false;
  }
  if (records.data() == nullptr) return false;
  for (std::size_t at = 0; at < records.size(); at += sizeof(Record)) {
    Record record;
    std::memcpy(&record, records.data() + at, sizeof record);
    decoded.tables.push_back(layout_of(record));
  }
  return true;
}

}  // namespace

bool decode(const std::byte* superblock, std::size_t size, Directory& directory) {
  Directory decoded;
  if (!decode_records(superblock, size, decoded)) return false;
  if (!complete(decoded.tables, decoded.version)) return false;
  directory = std::move(decoded);
  return true;
}

std::string unknown_dtype(const std::byte* superblock, std::size_t size) {
  Directory decoded;
  if (!decode_records(superblock, size, decoded)) return "";
  for (const TableLayout& table : decoded.tables) {
    const auto dtype = static_cast<std::uint32_t>(table.dtype);
    if (dtype <= kNumDTypes) continue;
    return "table '" + table.name + "' has rows of dtype number " + std::to_string(dtype);
  }
  return "";
}

}  // namespace tieralloc::file_format
