// memory_pool.cpp: placement of tables, and emulation of latency.
#include "slow_tier/memory/memory_pool.hpp"

#include <algorithm>
#include <cstring>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "base/numa/nodes.hpp"
#include "base/numa/spin.hpp"

namespace tieralloc {
namespace {

constexpr char kPurpose[] = "slow tier's rows";

std::byte* address_of(std::uint64_t offset) {
  return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(offset));
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace

MemoryPool::MemoryPool(const MemoryPoolOptions& options) : options_(options) {
  if (options_.request.node >= 0) (void)usable_node(options_.request.node);
  placement_.node = options_.request.node;
  placement_.prefer = options_.request.prefer;
  if (options_.extra_ns > 0) (void)spin_steps_per_ns();  // calibrates before the first measurement
}

std::vector<TableLayout> MemoryPool::tables() const {
  std::lock_guard lock(mutex_);
  return tables_;
}

TableLayout MemoryPool::add_table(TableLayout layout) {
  std::lock_guard lock(mutex_);
  tables_.reserve(tables_.size() + 1);
  allocate(layout);
  tables_.push_back(layout);
  return layout;
}

/// Gives a table memory of zeros. With `mutex_`.
void MemoryPool::allocate(TableLayout& layout) {
  const std::uint64_t size = Region::size_for(layout.rows * layout.stride);
  const std::string purpose = "rows of table '" + layout.name + "'";
  if (options_.request.node >= 0 && !options_.request.prefer) {
    check_node_memory(options_.request.node, size, purpose);
  }
  const std::uint64_t available = available_memory();
  if (available != 0 && size > available) {
    throw MemoryShortage("slow tier: not enough memory for the " + purpose +
                         "; expected at most the " + std::to_string(available) +
                         " bytes that the machine has available, got " + std::to_string(size));
  }
  NodeScope scope(options_.request);
  Region region(size, kPurpose);
  layout.offset = reinterpret_cast<std::uintptr_t>(region.data());
  layout.pages = PageLayout::dense(layout.stride);
  regions_.push_back(std::move(region));
  placement_.add(scope.placement());
}

TableLayout MemoryPool::prepare_growth(const TableLayout& table, std::uint64_t rows) {
  TableLayout grown = table;
  grown.rows = rows;
  {
    std::lock_guard lock(mutex_);
    allocate(grown);
  }
  std::memcpy(address_of(grown.offset), address_of(table.offset), table.rows * table.stride);
  return grown;
}

void MemoryPool::grow_table(const TableLayout& table, const TableLayout& grown) {
  std::lock_guard lock(mutex_);
  for (TableLayout& other : tables_) {
    if (other.offset == table.offset) other = grown;
  }
}

void MemoryPool::remove_table(const TableLayout& table) {
  std::lock_guard lock(mutex_);
  std::erase_if(tables_, [&](const TableLayout& other) { return other.offset == table.offset; });
}

void MemoryPool::free_space(const TableLayout& former) noexcept {
  std::lock_guard lock(mutex_);
  const auto region = std::find_if(regions_.begin(), regions_.end(), [&](const Region& other) {
    return other.data() == address_of(former.offset);
  });
  if (region != regions_.end()) regions_.erase(region);
}

void MemoryPool::read(std::span<ReadOp> ops, ReadListener& listener) {
  for (ReadOp& op : ops) {
    emulate_latency(op.length / kCacheLine);
    std::memcpy(op.buffer, address_of(op.offset), op.length);
    op.finish(0, now_ns());
  }
  listener.on_completions();
}

// Without extra latency: a processor does not wait for its stores.

void MemoryPool::update(const TableLayout& table, std::span<const TableRow> rows,
                        const std::byte* values) {
  const std::size_t bytes = table.row_bytes();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(address_of(table.address(rows[i]).offset()), values + i * bytes, bytes);
  }
}

void MemoryPool::load(const TableLayout& table, TableRow first, std::uint64_t rows,
                      const std::byte* values) {
  const std::size_t bytes = table.row_bytes();
  std::byte* row = address_of(table.address(first).offset());
  for (std::uint64_t i = 0; i < rows; ++i) {
    std::memcpy(row + i * table.stride, values + i * bytes, bytes);
  }
}

void MemoryPool::emulate_latency(std::size_t lines) const {
  if (options_.extra_ns <= 0) return;
  const std::size_t waits = (lines + options_.overlap - 1) / options_.overlap;
  spin(static_cast<double>(waits) * options_.extra_ns);
}

std::string MemoryPool::path() const {
  return options_.request.node < 0 ? "memory" : "node " + std::to_string(options_.request.node);
}

std::string MemoryPool::engine() const {
  std::string text = "loads in place";
  {
    std::lock_guard lock(mutex_);
    if (!placement_.refused.empty()) text += ", unbound";
  }
  if (options_.extra_ns > 0) {
    text += ", +" + number(options_.extra_ns) + " ns a cache line";
    if (options_.overlap > 1) text += ", " + std::to_string(options_.overlap) + " at a time";
  }
  return text;
}

std::uint64_t MemoryPool::bytes() const {
  std::lock_guard lock(mutex_);
  std::uint64_t bytes = 0;
  for (const Region& region : regions_) bytes += region.size();
  return bytes;
}

MemoryTraits MemoryPool::memory() const {
  std::lock_guard lock(mutex_);
  MemoryTraits traits{
      .placement = placement_, .extra_ns = options_.extra_ns, .overlap = options_.overlap};
  for (const Region& region : regions_) {
    traits.huge_page_bytes += huge_page_bytes(region.data(), region.size());
  }
  return traits;
}

Region MemoryPool::sample(std::size_t bytes) const {
  NodeScope scope(options_.request);
  return Region(bytes, kPurpose);
}

}  // namespace tieralloc
