// row_order.cpp: checks of an order, and the stable sort by pages.
#include "slow_tier/row_order.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace tieralloc {
namespace {

struct ArrangedRow {
  std::uint64_t row = 0;
  std::uint64_t page = 0;
};

[[noreturn]] void refuse_order(const std::string& table, const std::string& problem) {
  throw std::invalid_argument("order: table '" + table + "': " + problem);
}

void check_lengths(const std::string& table, std::uint32_t rows_per_page, std::uint64_t arranged,
                   std::span<const std::uint32_t> lengths) {
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < lengths.size(); ++page) {
    if (lengths[page] == 0 || lengths[page] > rows_per_page) {
      refuse_order(table, "page " + std::to_string(page) + " has " + std::to_string(lengths[page]) +
                              " rows; expected 1 to " + std::to_string(rows_per_page));
    }
    sum += lengths[page];
  }
  if (sum != arranged) {
    refuse_order(table, "the pages have " + std::to_string(sum) + " rows; expected " +
                            std::to_string(arranged) + ", the arranged ones");
  }
}

/// The rows with their pages, in ascending order of rows.
std::vector<ArrangedRow> sorted_rows(const std::string& table, std::uint64_t rows,
                                     std::span<const std::uint64_t> arranged,
                                     std::span<const std::uint32_t> lengths) {
  std::vector<ArrangedRow> sorted;
  sorted.reserve(arranged.size());
  for (std::uint64_t page = 0; page < lengths.size(); ++page) {
    for (std::uint32_t i = 0; i < lengths[page]; ++i) {
      const std::uint64_t row = arranged[sorted.size()];
      if (row >= rows) {
        refuse_order(table, "page " + std::to_string(page) + " has row " + std::to_string(row) +
                                "; expected rows 0 to " + std::to_string(rows - 1));
      }
      sorted.push_back({row, page});
    }
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const ArrangedRow& a, const ArrangedRow& b) { return a.row < b.row; });
  const ArrangedRow* repeated = nullptr;
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].row != sorted[i - 1].row) continue;
    if (repeated == nullptr || sorted[i].page < repeated->page) repeated = &sorted[i];
  }
  if (repeated != nullptr) {
    refuse_order(table, "page " + std::to_string(repeated->page) + " has row " +
                            std::to_string(repeated->row) + " again; expected each row once");
  }
  return sorted;
}

}  // namespace

RowOrder::RowOrder(const std::string& table, std::uint64_t rows, std::uint32_t rows_per_page,
                   std::span<const std::uint64_t> arranged,
                   std::span<const std::uint32_t> page_lengths)
    : rows_(rows), num_rows_(arranged.size()) {
  if (arranged.size() > std::numeric_limits<std::uint32_t>::max()) {
    refuse_order(table, "has " + std::to_string(arranged.size()) +
                            " arranged rows; expected less than 2**32");
  }
  check_lengths(table, rows_per_page, arranged.size(), page_lengths);
  const std::vector<ArrangedRow> sorted = sorted_rows(table, rows, arranged, page_lengths);

  // Pages in descending order of their lengths.
  std::vector<std::uint32_t> pages(page_lengths.size());
  std::iota(pages.begin(), pages.end(), 0u);
  std::stable_sort(pages.begin(), pages.end(), [&](std::uint32_t a, std::uint32_t b) {
    return page_lengths[a] > page_lengths[b];
  });
  std::vector<std::uint64_t> number(pages.size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    number[pages[i]] = i;
    const std::uint32_t length = page_lengths[pages[i]];
    const std::uint64_t end_row = runs_.empty() ? 0 : runs_.back().end_row;
    if (runs_.empty() || runs_.back().length != length) runs_.push_back({length, i, end_row});
    ++runs_.back().end_page;
    runs_.back().end_row += length;
  }

  std::vector<std::uint64_t> members, page_of;
  members.reserve(sorted.size());
  page_of.reserve(sorted.size());
  for (const ArrangedRow& row : sorted) {
    members.push_back(row.row);
    page_of.push_back(number[row.page]);
  }
  set_ = RowSet(rows, members);
  add_levels(std::move(page_of));
}

void RowOrder::add_levels(std::vector<std::uint64_t> pages) {
  const int bits = num_pages() < 2 ? 0 : std::bit_width(num_pages() - 1);
  levels_.reserve(static_cast<std::size_t>(bits));
  for (int bit = 0; bit < bits; ++bit) {
    RankedBits ones(pages.size());
    for (std::size_t i = 0; i < pages.size(); ++i) {
      if (pages[i] >> bit & 1) ones.set(i);
    }
    const std::uint64_t zeros = pages.size() - ones.count();
    levels_.push_back({std::move(ones), zeros});
    std::stable_partition(pages.begin(), pages.end(),
                          [&](std::uint64_t page) { return (page >> bit & 1) == 0; });
  }
}

RowOrder::Place RowOrder::find(std::uint64_t row) const {
  const RowSet::Position position = set_.find(row);
  std::uint64_t at = position.members_below;
  if (!position.is_member) return {false, 0, row - at};
  for (const Level& level : levels_) {
    const std::uint64_t ones = level.bits.rank(at);
    at = level.bits[at] ? level.zeros + ones : at - ones;
  }
  Run before;
  for (const Run& run : runs_) {
    if (at < run.end_row) {
      const std::uint64_t in_run = at - before.end_row;
      return {true, before.end_page + in_run / run.length, in_run % run.length};
    }
    before = run;
  }
  return {};  // not reached: the runs have all rows
}

std::uint64_t RowOrder::other_row(std::uint64_t place) const {
  std::uint64_t low = place, high = std::min(rows_ - 1, place + num_rows_);
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    const RowSet::Position position = set_.find(middle);
    // Rows up to `middle` that are not arranged.
    const std::uint64_t others = middle + 1 - position.members_below - position.is_member;
    if (others > place) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::uint32_t RowOrder::rows_in(std::uint64_t page) const {
  for (const Run& run : runs_) {
    if (page < run.end_page) return run.length;
  }
  return 0;
}

std::uint64_t RowOrder::bytes() const {
  std::uint64_t bytes = sizeof *this + set_.bytes() + runs_.size() * sizeof(Run);
  for (const Level& level : levels_) bytes += sizeof level + level.bits.bytes();
  return bytes;
}

std::vector<std::uint64_t> RowOrder::arranged() const {
  std::vector<std::uint64_t> first(num_pages() + 1);
  for (std::uint64_t page = 0; page < num_pages(); ++page) {
    first[page + 1] = first[page] + rows_in(page);
  }
  std::vector<std::uint64_t> rows(num_rows_);
  for (std::uint64_t row = 0; row < rows_; ++row) {
    const Place at = find(row);
    if (at.is_arranged) rows[first[at.page] + at.place] = row;
  }
  return rows;
}

}  // namespace tieralloc
