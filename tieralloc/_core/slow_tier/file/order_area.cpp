// order_area.cpp: encoding and decoding of orders.
#include "slow_tier/file/order_area.hpp"

#include <fcntl.h>

#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "base/crc32c.hpp"
#include "slow_tier/file/file_io.hpp"

namespace tieralloc::file_format {
namespace {

constexpr char kOrderMagic[8] = {'T', 'I', 'E', 'R', 'O', 'R', 'D', 'R'};
constexpr std::uint64_t kOrderCopies = 2;

struct OrderHeader {
  char magic[8];
  std::uint64_t rows;  ///< of the table
  std::uint64_t arranged_rows;
  std::uint64_t arranged_pages;
  std::uint32_t rows_per_page;
  std::uint32_t checksum;
};
static_assert(sizeof(OrderHeader) == 40);

bool is_wide(const TableLayout& table) {
  return table.rows > std::numeric_limits<std::uint32_t>::max();
}

std::uint64_t order_size(const TableLayout& table) {
  return sizeof(OrderHeader) + table.arranged_pages * sizeof(std::uint32_t) +
         table.arranged_rows * (is_wide(table) ? sizeof(std::uint64_t) : sizeof(std::uint32_t));
}

std::uint64_t order_copy_bytes(const TableLayout& table) {
  return table.arranged_pages == 0 ? 0 : round_up(order_size(table), kPage);
}

OrderHeader header_of(const TableLayout& table) {
  OrderHeader header{};
  std::memcpy(header.magic, kOrderMagic, sizeof kOrderMagic);
  header.rows = table.rows;
  header.arranged_rows = table.arranged_rows;
  header.arranged_pages = table.arranged_pages;
  header.rows_per_page = table.pages.rows_per_page;
  return header;
}

template <typename To, typename From>
void append_as(std::vector<std::byte>& bytes, std::span<const From> values) {
  std::size_t at = bytes.size();
  bytes.resize(at + values.size() * sizeof(To));
  for (const From value : values) {
    const To number = static_cast<To>(value);
    std::memcpy(bytes.data() + at, &number, sizeof number);
    at += sizeof number;
  }
}

template <typename From, typename To>
std::vector<To> numbers_at(const std::byte* bytes, std::uint64_t count) {
  std::vector<To> numbers(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    From number;
    std::memcpy(&number, bytes + i * sizeof number, sizeof number);
    numbers[i] = number;
  }
  return numbers;
}

/// Null if the bytes are no order of this table.
std::shared_ptr<const RowOrder> decode_order(std::span<std::byte> bytes, const TableLayout& table) {
  OrderHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::uint32_t checksum = header.checksum;
  header.checksum = 0;
  const OrderHeader expected = header_of(table);
  if (std::memcmp(&header, &expected, sizeof header) != 0) return nullptr;
  std::memcpy(bytes.data(), &header, sizeof header);
  if (crc32c(bytes.data(), bytes.size()) != checksum) return nullptr;
  const std::byte* lengths = bytes.data() + sizeof header;
  const std::byte* rows = lengths + table.arranged_pages * sizeof(std::uint32_t);
  try {  // the checksum proves integrity, not origin
    return std::make_shared<const RowOrder>(
        table.name, table.rows, table.pages.rows_per_page,
        is_wide(table) ? numbers_at<std::uint64_t, std::uint64_t>(rows, table.arranged_rows)
                       : numbers_at<std::uint32_t, std::uint64_t>(rows, table.arranged_rows),
        numbers_at<std::uint32_t, std::uint32_t>(lengths, table.arranged_pages));
  } catch (const std::invalid_argument&) {
    return nullptr;
  }
}

}  // namespace

std::uint64_t table_end(const TableLayout& table) {
  return table.pages_end() + kOrderCopies * order_copy_bytes(table);
}

void write_order(int fd, const std::string& path, const TableLayout& table) {
  std::vector<std::uint32_t> lengths(table.arranged_pages);
  for (std::uint64_t page = 0; page < lengths.size(); ++page) {
    lengths[page] = table.order->rows_in(page);
  }
  const std::vector<std::uint64_t> rows = table.order->arranged();
  OrderHeader header = header_of(table);
  std::vector<std::byte> bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  append_as<std::uint32_t>(bytes, std::span<const std::uint32_t>(lengths));
  const std::span<const std::uint64_t> arranged(rows);
  is_wide(table) ? append_as<std::uint64_t>(bytes, arranged)
                 : append_as<std::uint32_t>(bytes, arranged);
  header.checksum = crc32c(bytes.data(), bytes.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  for (std::uint64_t copy = 0; copy < kOrderCopies; ++copy) {
    write_fully(fd, bytes, table.pages_end() + copy * order_copy_bytes(table), path);
  }
}

std::shared_ptr<const RowOrder> read_order(int fd, const std::string& path,
                                           const TableLayout& table) {
  std::vector<std::byte> bytes(order_size(table));
  std::shared_ptr<const RowOrder> order;
  for (std::uint64_t copy = 0; copy < kOrderCopies && order == nullptr; ++copy) {
    const std::uint64_t at = table.pages_end() + copy * order_copy_bytes(table);
    if (read_up_to(fd, bytes, at, path) == bytes.size()) order = decode_order(bytes, table);
    posix_fadvise(fd, static_cast<off_t>(at), static_cast<off_t>(bytes.size()),
                  POSIX_FADV_DONTNEED);
  }
  return order;
}

}  // namespace tieralloc::file_format
