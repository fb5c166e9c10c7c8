// joined_pool.cpp: reads of rows as reads of their parts.
#include "slow_tier/checkpoint/joined_pool.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/counters.hpp"
#include "slow_tier/fetch_batch.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kMaxIdlePartBytes = std::size_t{4} << 20;

[[noreturn]] void refuse_parts(const JoinedTable& table, const std::string& problem) {
  throw std::invalid_argument("tables: table '" + table.name + "': " + problem);
}

}  // namespace

JoinedPool::JoinedPool(std::unique_ptr<CheckpointPool> parts,
                       const std::vector<JoinedTable>& tables)
    : parts_(std::move(parts)), part_tables_(parts_->tables()), buffers_(kMaxIdlePartBytes) {
  for (const JoinedTable& table : tables) {
    tables_.push_back(layout_of(table, tables_.size()));
    parts_of_.push_back(table.parts);
  }
}

TableLayout JoinedPool::layout_of(const JoinedTable& table, std::size_t position) const {
  if (table.parts.empty()) refuse_parts(table, "expected at least one part, got none");
  std::uint64_t bytes = 0;
  for (const std::uint32_t part : table.parts) {
    if (part >= part_tables_.size()) refuse_parts(table, "no part " + std::to_string(part));
    bytes += part_tables_[part].row_bytes();
  }
  const TableLayout& first = part_tables_[table.parts.front()];
  for (const std::uint32_t part : table.parts) {
    if (part_tables_[part].rows == first.rows) continue;
    refuse_parts(table, "expected parts of " + std::to_string(first.rows) + " rows, got " +
                            std::to_string(part_tables_[part].rows));
  }
  TableLayout layout = first;
  if (table.parts.size() > 1) {
    if (bytes > kMaxDim) {
      refuse_parts(table, "expected rows of at most " + std::to_string(kMaxDim) + " bytes, got " +
                              std::to_string(bytes));
    }
    layout.dtype = table.dtype;
    layout.dim = table.dtype == DType::bytes ? static_cast<std::uint32_t>(bytes) : table.dim;
    if (layout.row_bytes() != bytes) {
      refuse_parts(table, "expected parts of " + std::to_string(layout.row_bytes()) +
                              " bytes for rows of dim " + std::to_string(layout.dim) + ", got " +
                              std::to_string(bytes));
    }
  }
  if (layout.rows > NumberedOffset::kMaxFileBytes / bytes) refuse_parts(table, "too large");
  layout.name = table.name;
  layout.stride = layout.row_bytes();
  layout.offset = NumberedOffset{position, 0}.value();
  layout.extents = nullptr;
  layout.pages = PageLayout::dense(layout.stride);
  return layout;
}

JoinedPool::Rows JoinedPool::rows_of(std::uint64_t offset, std::uint64_t length) const {
  const NumberedOffset at = NumberedOffset::of(offset);
  const std::uint64_t row_bytes = tables_[at.file].stride;
  return {at.file, at.offset / row_bytes, length / row_bytes};
}

void JoinedPool::read(std::span<ReadOp> ops, ReadListener& listener) {
  std::vector<Rows> rows;
  std::vector<std::uint32_t> first_items;
  std::uint64_t items = 0;
  for (const ReadOp& op : ops) {
    rows.push_back(rows_of(op.offset, op.length));
    first_items.push_back(static_cast<std::uint32_t>(items));
    items += rows.back().count * parts_of_[rows.back().table].size();
  }
  first_items.push_back(static_cast<std::uint32_t>(items));
  FetchBatch batch(*parts_, buffers_, items);
  for (const Rows& each : rows) {
    for (std::uint64_t row = each.first; row < each.first + each.count; ++row) {
      for (const std::uint32_t part : parts_of_[each.table]) {
        batch.add(part_tables_[part].address({row}), false);
      }
    }
  }
  std::size_t next = 0;
  batch.read([&](std::uint32_t, std::uint32_t last) {
    for (; next < ops.size() && first_items[next + 1] <= last; ++next) {
      join(rows[next], batch, first_items[next], ops[next]);
    }
    listener.on_completions();
  });
}

/// Copies the complete parts of rows into the operation's buffer, and finishes it.
void JoinedPool::join(const Rows& rows, FetchBatch& batch, std::uint32_t first_item,
                      ReadOp& op) const {
  std::uint32_t item = first_item;
  std::byte* to = op.buffer;
  std::int32_t outcome = 0;
  for (std::uint64_t row = 0; row < rows.count; ++row) {
    for (const std::uint32_t part : parts_of_[rows.table]) {
      const std::uint32_t bytes = part_tables_[part].stride;
      const std::int32_t error = batch.wait(item);
      if (error == 0) std::memcpy(to, batch.bytes(item), bytes);
      if (outcome == 0) outcome = error;
      to += bytes;
      ++item;
    }
  }
  op.finish(outcome, now_ns());
}

std::string JoinedPool::describe(std::uint64_t page) const {
  const Rows rows = rows_of(page, 0);
  return "table '" + tables_[rows.table].name + "', row " + std::to_string(rows.first);
}

FilePlace JoinedPool::place_of(std::uint64_t offset) const {
  const Rows rows = rows_of(offset, 0);
  const TableLayout& part = part_tables_[parts_of_[rows.table].front()];
  return parts_->place_of(part.address({rows.first}).page);
}

}  // namespace tieralloc
