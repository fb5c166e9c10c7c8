// pool_rows.hpp: writes rows with versions to a pool and reads them; reads and writes parts of
// files.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "check.hpp"
#include "slow_tier/fetch_batch.hpp"
#include "slow_tier/file/file_pool.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "support.hpp"

namespace tieralloc::pool_rows {

using Bytes = std::vector<std::byte>;

inline TableLayout layout(const std::string& name, std::uint64_t rows, std::uint32_t stride) {
  return {.name = name, .rows = rows, .dim = stride / 4, .dtype = DType::float32, .stride = stride};
}

/// A row has its version in every word.
inline Bytes values_of(const TableLayout& table, std::size_t rows, std::uint64_t version) {
  Bytes values(rows * table.row_bytes());
  for (std::size_t at = 0; at < values.size(); at += 8) std::memcpy(&values[at], &version, 8);
  return values;
}
inline std::uint64_t version_in(const std::byte* row, std::size_t bytes) {
  std::uint64_t first = 0;
  std::memcpy(&first, row, 8);
  for (std::size_t at = 0; at < bytes; at += 8) CHECK(std::memcmp(row + at, &first, 8) == 0);
  return first;
}

inline void update(SlowPool& pool, const TableLayout& table, const std::vector<TableRow>& rows,
                   std::uint64_t version) {
  pool.update(table, rows, values_of(table, rows.size(), version).data());
}
inline void load(SlowPool& pool, const TableLayout& table, std::uint64_t first, std::uint64_t rows,
                 std::uint64_t version) {
  pool.load(table, {first}, rows, values_of(table, rows, version).data());
}

/// Versions of rows, as lookups find them. Each row is whole.
inline std::vector<std::uint64_t> read_rows(SlowPool& pool, const TableLayout& table,
                                            const std::vector<TableRow>& rows) {
  static BufferPool buffers(4 << 20);
  std::vector<std::uint64_t> versions(rows.size());
  std::vector<std::size_t> places;
  FetchBatch batch(pool, buffers, rows.size());
  Bytes value(table.stride);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (pool.find_updated(table.address(rows[i]), value)) {
      versions[i] = version_in(value.data(), table.row_bytes());
    } else {
      batch.add(table.address(rows[i]), false);
      places.push_back(i);
    }
  }
  batch.read([](std::uint32_t, std::uint32_t) {});
  for (std::uint32_t i = 0; i < places.size(); ++i) {
    CHECK_EQ(batch.wait(i), 0);
    versions[places[i]] = version_in(batch.bytes(i), table.row_bytes());
  }
  return versions;
}

inline std::vector<TableRow> rows_from(std::uint64_t first, std::uint64_t count) {
  std::vector<TableRow> rows;
  for (std::uint64_t i = 0; i < count; ++i) rows.push_back({first + i});
  return rows;
}

inline Bytes contents(const std::string& path, std::uint64_t at, std::size_t bytes) {
  const OpenFile file(path, O_RDONLY);
  Bytes content(bytes);
  CHECK_EQ(pread(file.fd(), content.data(), bytes, static_cast<off_t>(at)),
           static_cast<ssize_t>(bytes));
  return content;
}
inline void overwrite(const std::string& path, std::uint64_t at, const Bytes& bytes) {
  const OpenFile file(path, O_WRONLY);
  CHECK_EQ(pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
           static_cast<ssize_t>(bytes.size()));
}

}  // namespace tieralloc::pool_rows
