// checkpoint_pool.cpp: layouts of tables, and batches of reads over several files.
#include "slow_tier/checkpoint/checkpoint_pool.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "base/counters.hpp"
#include "base/error.hpp"

namespace tieralloc {
namespace {

constexpr std::int32_t kUnknownState = 1;

/// Whether `rows` rows of `row_bytes`, `stride` apart, end within `room`.
bool fits_rows(std::uint64_t room, std::uint64_t rows, std::uint32_t row_bytes,
               std::uint32_t stride) {
  return row_bytes <= room && rows - 1 <= (room - row_bytes) / stride;
}

/// Calls `visit(offset, first, end)` with the offset of each piece of a table, and its rows.
template <typename Visit>
void each_piece(const TableLayout& table, Visit visit) {
  const RowExtents whole{{.first_row = {}, .offset = table.offset}};
  const RowExtents& extents = table.extents == nullptr ? whole : *table.extents;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const bool is_last = i + 1 == extents.size();
    visit(extents[i].offset, extents[i].first_row.value,
          is_last ? table.rows : extents[i + 1].first_row.value);
  }
}

/// The row of a table whose bytes begin at an offset; its number of rows if there is none.
std::uint64_t find_row_at(const TableLayout& table, std::uint64_t offset) {
  std::uint64_t found = table.rows;
  each_piece(table, [&](std::uint64_t begin, std::uint64_t first, std::uint64_t end) {
    if (offset < begin) return;
    const std::uint64_t row = first + (offset - begin) / table.pages.page_stride;
    if (row < end && table.address({row}).page == offset) found = row;
  });
  return found;
}

std::uint32_t stride_in_file(const CheckpointTable& table) {
  return table.stride == 0 ? row_bytes_of(table.dim, table.dtype) : table.stride;
}

/// Throws std::invalid_argument if two tables share bytes: an overlay finds a value by its address.
void check_disjoint(const std::vector<TableLayout>& tables) {
  struct Range {
    std::uint64_t begin, end;
    const TableLayout* table;
  };
  std::vector<Range> ranges;
  for (const TableLayout& table : tables) {
    each_piece(table, [&](std::uint64_t begin, std::uint64_t, std::uint64_t end) {
      ranges.push_back({begin, table.address({end - 1}).page + table.stride, &table});
    });
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& one, const Range& other) { return one.begin < other.begin; });
  const Range* longest = nullptr;  // of those before
  for (const Range& range : ranges) {
    if (longest != nullptr && range.begin < longest->end) {
      throw std::invalid_argument("overlay: tables '" + longest->table->name + "' and '" +
                                  range.table->name +
                                  "' share bytes of a file; expected tables that share none");
    }
    if (longest == nullptr || range.end > longest->end) longest = &range;
  }
}

}  // namespace

CheckpointPool::CheckpointPool(const std::vector<CheckpointSource>& files,
                               const std::vector<CheckpointTable>& tables,
                               const CheckpointOptions& options)
    : options_(options) {
  if (files.empty() || files.size() > NumberedOffset::kMaxFiles) {
    throw std::invalid_argument("files: expected 1 to " +
                                std::to_string(NumberedOffset::kMaxFiles) + ", got " +
                                std::to_string(files.size()));
  }
  for (const CheckpointSource& file : files) {
    files_.emplace_back(file.path, file.stamp, options_.direct);
    read_files_.push_back(files_.back().reads());
  }
  for (const CheckpointTable& table : tables) tables_.push_back(layout_of(table));
  start_engine();
  start_overlay();
}

CheckpointPool::~CheckpointPool() = default;

TableLayout CheckpointPool::layout_of(const CheckpointTable& table) const {
  TableLayout layout{.name = table.name, .dim = table.dim, .dtype = table.dtype};
  RowExtents extents;
  for (const CheckpointPiece& piece : table.pieces) {
    check_piece(table, piece);
    extents.push_back({{layout.rows}, NumberedOffset{piece.file, piece.offset}.value()});
    layout.rows += piece.rows;
  }
  if (layout.rows == 0 || layout.rows > kMaxTableRows) {
    throw std::invalid_argument("tables: table '" + table.name + "': expected 1 to " +
                                std::to_string(kMaxTableRows) + " rows, got " +
                                std::to_string(layout.rows));
  }
  layout.stride = layout.row_bytes();
  layout.offset = extents.front().offset;
  layout.pages = PageLayout::strided(layout.stride, stride_in_file(table));
  if (extents.size() > 1) layout.extents = std::make_shared<const RowExtents>(std::move(extents));
  return layout;
}

void CheckpointPool::check_piece(const CheckpointTable& table, const CheckpointPiece& piece) const {
  const auto refuse_piece = [&](const std::string& problem) {
    throw std::invalid_argument("tables: table '" + table.name + "': " + problem);
  };
  if (table.dim == 0 || table.dim > kMaxDim) {
    refuse_piece("expected a dim of 1 to " + std::to_string(kMaxDim) + ", got " +
                 std::to_string(table.dim));
  }
  const std::uint32_t row_bytes = row_bytes_of(table.dim, table.dtype);
  const std::uint32_t stride = stride_in_file(table);
  if (stride < row_bytes) {
    refuse_piece("expected a stride of at least " + std::to_string(row_bytes) + " bytes, got " +
                 std::to_string(stride));
  }
  if (piece.file >= files_.size() || piece.rows == 0) {
    refuse_piece("expected rows in one of " + std::to_string(files_.size()) + " files, got " +
                 std::to_string(piece.rows) + " in file " + std::to_string(piece.file));
  }
  const CheckpointFile& file = files_[piece.file];
  if (file.bytes() > NumberedOffset::kMaxFileBytes) {
    refuse_piece("expected a file of at most " + std::to_string(NumberedOffset::kMaxFileBytes) +
                 " bytes, got " + std::to_string(file.bytes()) + " in " + file.path());
  }
  if (piece.offset > file.bytes() ||
      !fits_rows(file.bytes() - piece.offset, piece.rows, row_bytes, stride)) {
    refuse_piece("expected rows within the " + std::to_string(file.bytes()) + " bytes of " +
                 file.path() + ", got " + std::to_string(piece.rows) + " rows at a stride of " +
                 std::to_string(stride) + " from offset " + std::to_string(piece.offset));
  }
}

void CheckpointPool::start_engine() {
  const bool is_direct = std::all_of(read_files_.begin(), read_files_.end(),
                                     [](const ReadFile& file) { return file.direct; });
  try {
    engine_ = choose_fetch_engine(
        options_.engine, {{read_files_.front().fd, is_direct}, options_.queue_depth, read_files_});
  } catch (const SystemFailure& failure) {
    throw SystemFailure(failure.code, failure.what(), files_.front().path());
  }
}

void CheckpointPool::start_overlay() {
  if (options_.overlay.empty()) return;
  check_disjoint(tables_);
  std::uint64_t files_id = 0;
  for (const CheckpointFile& file : files_) files_id = (files_id ^ file.bytes()) * 0x100000001B3u;
  overlay_ = std::make_unique<Overlay>(options_.overlay, tables_, files_id);
}

void CheckpointPool::read(std::span<ReadOp> ops, ReadListener& listener) {
  std::vector<std::int32_t> states(files_.size(), kUnknownState);
  std::size_t first = 0;  // of the reads of files that did not change
  const auto read_up_to = [&](std::size_t end) {
    if (end > first) engine_->read(ops.subspan(first, end - first), listener);
  };
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const std::uint64_t file = NumberedOffset::of(ops[i].offset).file;
    if (states[file] == kUnknownState) states[file] = files_[file].check();
    if (states[file] == 0) continue;
    read_up_to(i);
    ops[i].finish(states[file], now_ns());
    first = i + 1;
  }
  read_up_to(ops.size());
}

std::string CheckpointPool::describe(std::uint64_t page) const {
  for (const TableLayout& table : tables_) {
    const std::uint64_t row = find_row_at(table, page);
    if (row < table.rows) return "table '" + table.name + "', row " + std::to_string(row);
  }
  return "rows";
}

FilePlace CheckpointPool::place_of(std::uint64_t offset) const {
  const NumberedOffset numbered = NumberedOffset::of(offset);
  return {files_[numbered.file].path(), numbered.offset};
}

std::string CheckpointPool::engine() const {
  for (const CheckpointFile& file : files_) {
    if (!file.refusal().empty()) return describe_engine(*engine_, file.refusal());
  }
  return describe_engine(*engine_, {});
}

std::uint64_t CheckpointPool::bytes() const {
  std::uint64_t bytes = 0;
  for (const CheckpointFile& file : files_) bytes += file.bytes();
  return bytes;
}

std::uint64_t CheckpointPool::cached_bytes() const {
  std::uint64_t bytes = 0;
  for (const CheckpointFile& file : files_) bytes += file.cached_bytes();
  return bytes;
}

TableLayout CheckpointPool::add_table(TableLayout layout) {
  (void)layout;
  refuse("create_table");
}

void CheckpointPool::remove_table(const TableLayout& table) {
  (void)table;
  refuse("drop_table");
}

TableLayout CheckpointPool::prepare_growth(const TableLayout& table, std::uint64_t rows) {
  (void)table, (void)rows;
  refuse("resize");
}

void CheckpointPool::grow_table(const TableLayout& table, const TableLayout& grown) {
  (void)table, (void)grown;
  refuse("resize");
}

void CheckpointPool::update(const TableLayout& table, std::span<const TableRow> rows,
                            const std::byte* values) {
  if (overlay_ == nullptr) refuse("update");
  if (rows.empty()) return;
  const auto place = std::find_if(tables_.begin(), tables_.end(), [&](const TableLayout& other) {
    return other.name == table.name;
  });
  overlay_->update(static_cast<std::uint32_t>(place - tables_.begin()), table, rows, values);
}

void CheckpointPool::load(const TableLayout& table, TableRow first, std::uint64_t rows,
                          const std::byte* values) {
  (void)table, (void)first, (void)rows, (void)values;
  refuse("load");
}

void CheckpointPool::refuse(const char* call) const {
  throw SystemFailure(EROFS, std::string(call) + ": a checkpoint is only read", path());
}

}  // namespace tieralloc
