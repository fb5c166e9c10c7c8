// lookup.cpp: a call from its first index to its last.
//
// Bags are taken in chunks of a table, and a chunk in groups of bags, in a pipeline: while a group
// is pooled, the rows of the next are on their way from memory and the index's entries for the one
// after that. Bags that have all of their rows are pooled, those that miss some set aside with
// copies of the rows they have. Then the misses of all chunks are fetched as one batch and the bags
// set aside are pooled. Rows that can be read in place are pooled where they lie, and copied after
// the chunk where that is worth it. Nothing is pooled in another order than its bag's, so a sum
// does not depend on where its rows were.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/row_loops.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kChunk = 4096;  // rows taken from the caller at a time
// Where rows are read in place and copied behind a chunk: of a row that comes again in a call, the
// later ones find the copy.
constexpr std::size_t kChunkInPlace = 256;
constexpr std::size_t kGroup = 256;  // rows found and pooled at a time, at least
constexpr std::size_t kMaxHeld = std::size_t{16} << 20;  // bytes of rows set aside at a time

std::size_t weight_bytes(const Table& table) {
  return table.layout.dtype == DType::float64 ? sizeof(double) : sizeof(float);
}

}  // namespace

class LookupExecutor {
 public:
  LookupExecutor(Store& store, ReadGuard& guard, const BagCall& call)
      : store_(store),
        guard_(guard),
        call_(call),
        state_(store.states_.of(guard)),
        scratch_(state_.scratch),
        ring_(store.ring_of(state_)),
        admitting_(store.admission_.admits()) {}
  ~LookupExecutor() { scratch_.trim(); }
  LookupExecutor(const LookupExecutor&) = delete;

  void serve() {
    const std::uint64_t began = now_ns();
    std::size_t column = 0;
    for (std::size_t part = 0; part < call_.parts.size(); ++part) {
      columns_.push_back(column);
      column += call_.parts[part].table->layout.dim * size_of(call_.out_dtype);
    }
    try {
      if (ring_ != nullptr) ring_->begin_call();
      for (std::size_t part = 0; part < call_.parts.size(); ++part) serve_part(part);
      if (ring_ != nullptr) ring_->end_call();
      finish_pending();
    } catch (...) {
      forget_pending();
      throw;
    }
    meter(now_ns() - began);
  }

 private:
  const Table& table_of(std::size_t part) const { return *call_.parts[part].table; }

  /// Whether bags hold one row, none of which is left out as padding.
  bool one_row_each(std::size_t part) const {
    return call_.offsets.data == nullptr && call_.parts[part].padding < 0;
  }

  PoolFunction pool_of(const Table& table) const {
    return choose_pool(table.layout.dtype, call_.out_dtype, call_.mode, call_.weights != nullptr);
  }

  std::byte* out_of(std::size_t part, std::size_t bag) const {
    return call_.out + bag * call_.out_stride + columns_[part];
  }

  void serve_part(std::size_t part) {
    if (ring_ != nullptr) ring_->begin_part();
    const bool copies = admitting_ && table_of(part).home != nullptr;
    const std::size_t most = copies ? kChunkInPlace : kChunk;
    for (std::size_t bag = 0; bag < call_.bags;) {
      const std::size_t first = bag;
      std::size_t rows = 0;
      scratch_.lengths.clear();
      do {
        const std::size_t size = bag_size(part, bag++);
        scratch_.lengths.push_back(static_cast<std::uint32_t>(size));
        rows += size;
      } while (bag < call_.bags && rows + bag_size(part, bag) <= most &&
               scratch_.lengths.size() < most);
      take_rows(part, call_.bag_begin(part * call_.bags + first), rows);
      serve_chunk(part, first);
      if (scratch_.misses.rows.size() >= Fetcher::kMaxBatch || scratch_.held.bytes() >= kMaxHeld) {
        finish_pending();
      }
    }
  }

  std::size_t bag_size(std::size_t part, std::size_t bag) const {
    const std::size_t i = part * call_.bags + bag;
    const std::size_t begin = call_.bag_begin(i);
    const std::size_t end = call_.bag_end(i);
    if (begin > end) refuse_changed_offsets();
    return end - begin;
  }

  /// They were in order when the call began: the caller's memory has changed.
  [[noreturn]] static void refuse_changed_offsets() {
    throw std::invalid_argument("the offsets changed while the call was served");
  }

  /// Fills in the rows and weights of the chunk's bags, whose n indices begin at the call's
  /// `begin`-th.
  void take_rows(std::size_t part, std::size_t begin, std::size_t n) {
    if (begin > call_.indices.size || n > call_.indices.size - begin) refuse_changed_offsets();
    scratch_.rows.resize(n);
    number_rows(table_of(part), begin);
    if (call_.weights != nullptr) {
      weights_ =
          static_cast<const std::byte*>(call_.weights) + begin * weight_bytes(table_of(part));
    }
    if (call_.parts[part].padding >= 0) drop_padding(part, call_.parts[part].padding);
  }

  /// validate() has let an index outside the table pass only to have row 0 served for it.
  void number_rows(const Table& table, std::size_t begin) {
    const std::size_t n = scratch_.rows.size();
    const void* indices = call_.indices.data;
    if (call_.indices.wide) {
      row_loops().number_64(static_cast<const std::int64_t*>(indices) + begin, n, table.layout.rows,
                            table.first_row.value, row_ids(scratch_.rows.data()));
    } else {
      row_loops().number_32(static_cast<const std::int32_t*>(indices) + begin, n, table.layout.rows,
                            table.first_row.value, row_ids(scratch_.rows.data()));
    }
  }

  /// Takes the padding row, and the weights that go with it, out of the chunk's bags.
  void drop_padding(std::size_t part, std::int64_t padding) {
    const Table& table = table_of(part);
    const TierRow left_out = table.first_row + TableRow{static_cast<RowId>(padding)};
    const std::size_t width = weight_bytes(table);
    scratch_.weights.clear();
    std::size_t from = 0;
    std::size_t to = 0;
    for (std::uint32_t& length : scratch_.lengths) {
      const std::size_t end = from + length;
      const std::size_t begin = to;
      for (; from < end; ++from) {
        if (scratch_.rows[from] == left_out) continue;
        scratch_.rows[to++] = scratch_.rows[from];
        if (call_.weights == nullptr) continue;
        const std::byte* weight = weights_ + from * width;
        scratch_.weights.insert(scratch_.weights.end(), weight, weight + width);
      }
      length = static_cast<std::uint32_t>(to - begin);
    }
    scratch_.rows.resize(to);
    if (call_.weights != nullptr) weights_ = scratch_.weights.data();
  }

  /// Some bags of the chunk that follow each other: places in it of the first one and of its first
  /// row.
  struct Group {
    std::size_t bag = 0;
    std::size_t row = 0;
    std::size_t bags = 0;
    std::size_t rows = 0;
  };

  void serve_chunk(std::size_t part, std::size_t first_bag) {
    FastTier& tier = *table_of(part).tier;
    const bool in_place = table_of(part).home != nullptr;
    const std::size_t n = scratch_.rows.size();
    lookups_ += n;
    if (ring_ != nullptr) {
      ring_->push(scratch_.rows, table_of(part).number.value - table_of(part).first_row.value,
                  scratch_.lengths, one_row_each(part));
    }
    scratch_.entries.resize(n);
    scratch_.pointers.resize(n);
    if (in_place && !admitting_ && serve_at_home(part, first_bag)) return;
    const bool touches = tier.needs_touches();
    const bool inside = tier.touch_is_concurrent();
    guard_.begin_read();
    serve_groups(part, first_bag, touches && inside);
    guard_.end_read();
    if (touches && !inside) touch(tier, {.bags = scratch_.lengths.size(), .rows = n});
    if (in_place && admitting_) promote(tier);
  }

  /// Serves a chunk from home alone. False, having done nothing, where rows are to be found
  /// elsewhere.
  bool serve_at_home(std::size_t part, std::size_t first_bag) {
    const Table& table = table_of(part);
    const Group all{.bags = scratch_.lengths.size(), .rows = scratch_.rows.size()};
    guard_.begin_read();
    const bool possible = table.tier->is_skippable();
    if (possible) {
      std::fill_n(scratch_.pointers.begin(), all.rows, nullptr);
      read_in_place(table, all, all.rows);
      pool(part, first_bag, all);
    }
    guard_.end_read();
    return possible;
  }

  /// Fills in the addresses of those rows of a group, `absent` of them, that have none.
  void read_in_place(const Table& table, const Group& group, std::size_t absent) {
    const std::size_t stride = table.layout.stride;
    for (std::size_t i = group.row; i < group.row + group.rows; ++i) {
      if (scratch_.pointers[i] != nullptr) continue;
      scratch_.pointers[i] = table.home + (scratch_.rows[i] - table.first_row).value * stride;
    }
    state_.counters.on_demand_fetches.add(absent);
    waited_ = true;
    store_.pool_->emulate_latency(absent * (stride / kCacheLine));
  }

  /// Has rows of the chunk that were read in place copied, those that are worth it.
  void promote(FastTier& tier) {
    const unsigned needed = store_.admission_.accesses_needed(tier.stride() / kCacheLine);
    std::size_t count = 0;
    for (std::size_t i = 0; i < scratch_.rows.size(); ++i) {
      if (scratch_.entries[i] != kAbsent) continue;
      const TierRow row = scratch_.rows[i];
      if (needed > 1 && tier.count_access(row) < needed) continue;
      scratch_.rows[count++] = row;  // the chunk is served: its rows are needed no more
    }
    if (count == 0) return;
    store_.promoter_.promote(tier, {scratch_.rows.data(), count});
    store_.wake_cleaner(tier);
  }

  Group group_after(const Group& last) const {
    Group group{.bag = last.bag + last.bags, .row = last.row + last.rows};
    while (group.rows < kGroup && group.bag + group.bags < scratch_.lengths.size()) {
      group.rows += scratch_.lengths[group.bag + group.bags++];
    }
    return group;
  }

  void serve_groups(std::size_t part, std::size_t first_bag, bool touches) {
    FastTier& tier = *table_of(part).tier;
    const auto ask_for = [&](const Group& group) {
      tier.prefetch_entries(std::span(scratch_.rows).subspan(group.row, group.rows));
    };
    const auto prepare = [&](const Group& group) {
      const std::size_t found = find_rows(table_of(part), group);
      if (touches) touch(tier, group);
      return found;
    };
    Group group = group_after({});
    Group next = group_after(group);
    ask_for(group);
    ask_for(next);
    std::size_t found = prepare(group);
    while (group.bags > 0) {
      const Group later = group_after(next);
      ask_for(later);
      const std::size_t next_found = prepare(next);
      if (found == group.rows) {
        pool(part, first_bag, group, next.rows);
      } else {
        pool_or_set_aside(part, first_bag, group);
      }
      group = next;
      next = later;
      found = next_found;
    }
  }

  /// Fills in the addresses of a group's resident rows; returns how many there are.
  std::size_t find_rows(const Table& table, const Group& group) {
    FastTier& tier = *table.tier;
    Entry* entries = scratch_.entries.data() + group.row;
    tier.find(std::span(scratch_.rows).subspan(group.row, group.rows), entries);
    const auto [flags, found] = row_loops().locate(entries, group.rows, tier.row(0), tier.stride(),
                                                   scratch_.pointers.data() + group.row);
    if (is_prefetched(flags)) count_first_uses(tier, group);
    if (found < group.rows && table.home != nullptr) {
      const std::size_t absent = group.rows - found;
      read_in_place(table, group, absent);
      // Where no copies are looked for, none would have spared it.
      if (admitting_) {
        const std::size_t lines = absent * (tier.stride() / kCacheLine);
        state_.counters.waited_ns.add(store_.admission_.ns_in_place(lines));
      }
      return group.rows;
    }
    return found;
  }

  void count_first_uses(FastTier& tier, const Group& group) {
    for (std::size_t i = group.row; i < group.row + group.rows; ++i) {
      if (is_prefetched(scratch_.entries[i]) && tier.clear_prefetched(scratch_.rows[i])) {
        state_.counters.prefetches_useful.add(1);
      }
    }
  }

  /// Tells the policy of hits that it needs to hear of: of rows that are hit all the time, none.
  void touch(FastTier& tier, const Group& group) {
    scratch_.touched.resize(group.rows);
    scratch_.touched_at.resize(group.rows);
    std::size_t count = 0;
    for (std::size_t i = group.row; i < group.row + group.rows; ++i) {
      const Entry entry = scratch_.entries[i];  // no branch: nobody could predict it
      scratch_.touched[count] = slot_of(entry);
      scratch_.touched_at[count] = static_cast<std::uint32_t>(i);
      count += entry != kAbsent && !is_saturated(entry);
    }
    if (count == 0) return;
    const std::span<const Slot> slots(scratch_.touched.data(), count);
    tier.touch(slots);
    if (!tier.touch_is_concurrent()) return;
    scratch_.saturated.resize(count);
    const std::size_t saturated = tier.find_saturated(slots, scratch_.saturated.data());
    for (std::size_t i = 0; i < saturated; ++i) {
      const std::uint32_t at = scratch_.touched_at[scratch_.saturated[i]];
      tier.note_saturation(scratch_.rows[at], scratch_.entries[at]);
    }
  }

  /// Pools a group of the chunk, all rows of which were found.
  void pool(std::size_t part, std::size_t first_bag, const Group& group, std::size_t behind = 0) {
    const Table& table = table_of(part);
    PoolJob job;
    job.rows = scratch_.pointers.data() + group.row;
    job.lengths = one_row_each(part) ? nullptr : scratch_.lengths.data() + group.bag;
    job.bags = group.bags;
    job.behind = behind;
    job.weights = weights_ == nullptr ? nullptr : weights_ + group.row * weight_bytes(table);
    job.dim = table.layout.dim;
    job.out = out_of(part, first_bag + group.bag);
    job.out_stride = call_.out_stride;
    pool_of(table)(job);
  }

  void pool_or_set_aside(std::size_t part, std::size_t first_bag, const Group& group) {
    Group one{.bag = group.bag, .row = group.row, .bags = 1};
    for (; one.bag < group.bag + group.bags; ++one.bag) {
      one.rows = scratch_.lengths[one.bag];
      const auto* begin = scratch_.pointers.data() + one.row;
      if (std::find(begin, begin + one.rows, nullptr) == begin + one.rows) {
        pool(part, first_bag, one);
      } else {
        set_aside(part, first_bag + one.bag, one.row, one.rows);
      }
      one.row += one.rows;
    }
  }

  void set_aside(std::size_t part, std::size_t bag, std::size_t row, std::size_t n) {
    const Table& table = table_of(part);
    scratch_.pending.push_back({.part = static_cast<std::uint32_t>(part),
                                .out = out_of(part, bag),
                                .first = scratch_.pending_rows.size(),
                                .rows = static_cast<std::uint32_t>(n),
                                .weights = scratch_.pending_weights.size()});
    for (std::size_t i = row; i < row + n; ++i) {
      const std::byte* bytes = scratch_.pointers[i];
      scratch_.pending_rows.push_back(
          bytes != nullptr
              ? reinterpret_cast<std::uintptr_t>(scratch_.held.push(bytes, table.row_bytes()))
              : scratch_.misses.add(table.tier, scratch_.rows[i]) * std::uintptr_t{2} + 1);
    }
    if (weights_ == nullptr) return;
    const std::size_t width = weight_bytes(table);
    scratch_.pending_weights.insert(scratch_.pending_weights.end(), weights_ + row * width,
                                    weights_ + (row + n) * width);
  }

  void finish_pending() {
    if (scratch_.pending.empty()) return;
    waited_ = true;
    const std::uint64_t began = now_ns();
    store_.fetcher_.fetch(scratch_.misses.rows, scratch_.held, state_.counters);
    state_.counters.waited_ns.add(now_ns() - began);
    for (const PendingBag& bag : scratch_.pending) {
      scratch_.pointers.clear();
      for (std::size_t i = bag.first; i < bag.first + bag.rows; ++i) {
        const std::uintptr_t row = scratch_.pending_rows[i];
        scratch_.pointers.push_back((row & 1) != 0 ? scratch_.misses.rows[row >> 1].bytes
                                                   : reinterpret_cast<const std::byte*>(row));
      }
      const Table& table = table_of(bag.part);
      PoolJob job;
      job.rows = scratch_.pointers.data();
      job.lengths = one_row_each(bag.part) ? nullptr : &bag.rows;
      job.bags = 1;
      job.weights =
          call_.weights == nullptr ? nullptr : scratch_.pending_weights.data() + bag.weights;
      job.dim = table.layout.dim;
      job.out = bag.out;
      job.out_stride = call_.out_stride;
      pool_of(table)(job);
    }
    for (const TablePart& part : call_.parts) store_.wake_cleaner(*part.table->tier);
    forget_pending();
  }

  void forget_pending() {
    scratch_.misses.clear();
    scratch_.pending.clear();
    scratch_.pending_rows.clear();
    scratch_.pending_weights.clear();
    scratch_.held.clear();
  }

  void meter(std::uint64_t ns) {
    CallCounters& counters = state_.counters;
    const std::uint64_t on_demand = counters.on_demand_fetches.get() - on_demand_before_;
    counters.calls.add(1);
    // Everything else: found in the index, resident by the time of the fetch, or fetched by this
    // call already.
    counters.hits.add(lookups_ - on_demand);
    if (store_.pool_->in_place()) store_.admission_.note_call(admitting_, lookups_, ns);
    if (waited_) {
      counters.call_on_demand.record(ns);
    } else {
      counters.call_hit.record(ns);
      if (lookups_ > 0) counters.row_hit.record(ns / lookups_, lookups_);
    }
  }

  Store& store_;
  ReadGuard& guard_;
  const BagCall& call_;
  CallState& state_;
  CallScratch& scratch_;
  AccessRing* const ring_;  ///< null: nobody records accesses
  const bool admitting_;    ///< whether copies are looked for where rows are read in place
  std::vector<std::size_t> columns_;    ///< bytes before each part in a line of the result
  const std::byte* weights_ = nullptr;  ///< of the chunk; null: none
  std::uint64_t lookups_ = 0;
  std::uint64_t on_demand_before_ = state_.counters.on_demand_fetches.get();
  bool waited_ = false;
};

std::uint64_t Store::embedding_bag(const BagCall& call) {
  check_fork();
  const std::uint64_t outside = validate(call);
  std::optional<ReadGuard> guard;
  enter(guard);
  LookupExecutor(*this, *guard, call).serve();
  if (outside > 0) states_.of(*guard).counters.out_of_range.add(outside);
  return outside;
}

}  // namespace tieralloc
