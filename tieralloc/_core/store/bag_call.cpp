// bag_call.cpp: validation of calls.
#include "store/bag_call.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/row_loops.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

[[noreturn]] void refuse_changed_index(const Table& table) {
  throw std::out_of_range("indices: changed during the call; expected constant rows of table '" +
                          table.layout.name + "'");
}

std::uint64_t check_range(const Table& table, Integers indices, std::size_t begin, std::size_t end,
                          BoundsCheck bounds) {
  const std::uint64_t rows = table.num_rows();
  const std::uint64_t outside =
      indices.wide ? row_loops().count_outside_64(
                         static_cast<const std::int64_t*>(indices.data) + begin, end - begin, rows)
                   : row_loops().count_outside_32(
                         static_cast<const std::int32_t*>(indices.data) + begin, end - begin, rows);
  if (outside == 0 || bounds != BoundsCheck::fatal) return outside;
  for (std::size_t i = begin; i < end; ++i) {
    const std::int64_t index = indices[i];
    if (static_cast<std::uint64_t>(index) < rows) continue;
    throw std::out_of_range("indices[" + std::to_string(i) + "]: out of range of table '" +
                            table.layout.name + "'; expected 0 to " + std::to_string(rows - 1) +
                            ", got " + std::to_string(index));
  }
  refuse_changed_index(table);
}

void check_offsets(const BagCall& call) {
  const std::size_t bags = call.segments.size() * call.bags;
  const Integers& offsets = call.offsets;
  if (offsets.data == nullptr) {
    if (call.indices.size != bags) {
      throw std::invalid_argument("indices: expected " + std::to_string(bags) + ", got " +
                                  std::to_string(call.indices.size));
    }
    return;
  }
  if (offsets.size != bags && offsets.size != bags + 1) {
    throw std::invalid_argument("offsets: expected " + std::to_string(bags) + " or " +
                                std::to_string(bags + 1) + ", got " + std::to_string(offsets.size));
  }
  std::int64_t previous = 0;
  const auto max_offset = static_cast<std::int64_t>(call.indices.size);
  for (std::size_t i = 0; i < offsets.size; ++i) {
    const std::int64_t offset = offsets[i];
    if (i == 0 && offset != 0) {
      throw std::invalid_argument("offsets[0]: expected 0, got " + std::to_string(offset));
    }
    if (offset < previous) {
      throw std::invalid_argument("offsets[" + std::to_string(i) + "]: below the one before; " +
                                  "expected at least " + std::to_string(previous) + ", got " +
                                  std::to_string(offset));
    }
    if (offset > max_offset) {
      throw std::invalid_argument("offsets[" + std::to_string(i) + "]: beyond the indices; " +
                                  "expected at most " + std::to_string(max_offset) + ", got " +
                                  std::to_string(offset));
    }
    previous = offset;
  }
}

void check_pooling(const BagCall& call) {
  if (call.mode == Mode::copy || call.out == nullptr) return;
  for (const TableSegment& segment : call.segments) {
    const TableLayout& layout = segment.table->layout;
    if (layout.dtype != DType::bytes && call.out_dtype != DType::bytes) continue;
    throw std::invalid_argument("rows of bytes cannot be pooled; expected numbers, got table '" +
                                layout.name + "'");
  }
}

/// A copied row fills a line of the result: there are no bags.
void check_copy(const BagCall& call) {
  if (call.mode != Mode::copy) return;
  if (call.offsets.data != nullptr) {
    throw std::invalid_argument("offsets: no effect on copied rows; expected none, got " +
                                std::to_string(call.offsets.size));
  }
  for (const TableSegment& segment : call.segments) {
    if (segment.padding < 0) continue;
    throw std::invalid_argument("padding: no effect on copied rows; expected none, got row " +
                                std::to_string(segment.padding));
  }
}

/// Calls `visit(table, begin, end)` with the indices of each segment.
template <typename Visit>
void each_segment(const BagCall& call, Visit visit) {
  std::size_t begin = 0;
  for (std::size_t segment = 0; segment < call.segments.size() && call.bags > 0; ++segment) {
    const std::size_t end = call.bag_end((segment + 1) * call.bags - 1, begin);
    visit(*call.segments[segment].table, begin, end);
    begin = end;
  }
}

}  // namespace

void check_live(const Table& table) {
  if (!table.is_dropped.load(std::memory_order_relaxed)) return;
  throw std::invalid_argument("table '" + table.layout.name +
                              "' was dropped; expected a table of the store");
}

void BagCall::refuse_changed_offsets() {
  throw std::invalid_argument("offsets: changed during the call; expected constant memory");
}

std::size_t BagCall::take_lengths(std::size_t segment, std::size_t bag, std::size_t begin,
                                  std::size_t max, std::vector<std::uint32_t>& lengths) const {
  if (offsets.data == nullptr) {
    lengths.assign(std::min(bags - bag, max), 1);
    return begin + lengths.size();
  }
  lengths.clear();
  const std::size_t end_bag = std::min(bags, bag + max);
  std::size_t end = begin;
  for (; bag < end_bag; ++bag) {
    const std::size_t next = bag_end(segment * bags + bag, end);
    if (!lengths.empty() && next - begin > max) break;
    lengths.push_back(static_cast<std::uint32_t>(next - end));
    end = next;
  }
  return end;
}

std::uint64_t validate(const BagCall& call) {
  check_copy(call);
  check_pooling(call);
  check_offsets(call);
  std::uint64_t outside = 0;
  each_segment(call, [&](const Table& table, std::size_t begin, std::size_t end) {
    outside += check_range(table, call.indices, begin, end, call.bounds);
  });
  return outside;
}

std::vector<std::uint64_t> outside_of_segments(const BagCall& call) {
  std::vector<std::uint64_t> outside;
  each_segment(call, [&](const Table& table, std::size_t begin, std::size_t end) {
    outside.push_back(check_range(table, call.indices, begin, end, BoundsCheck::warning));
  });
  return outside;
}

std::uint64_t validate_rows(const Table& table, Integers indices, BoundsCheck bounds) {
  return check_range(table, indices, 0, indices.size, bounds);
}

TableRow row_at(const Table& table, Integers indices, std::size_t i) {
  const auto row = static_cast<std::uint64_t>(indices[i]);
  if (row < table.num_rows()) return {row};
  refuse_changed_index(table);
}

}  // namespace tieralloc
