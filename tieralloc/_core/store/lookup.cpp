// lookup.cpp: a lookup, of one call or several, from its first index to its last.
//
//   for each table segment of each call:
//     for each batch of whole bags (kBatchRows rows or one large bag):
//       for each group of bags (kGroupRows rows or more), in a pipeline:
//         pool the group, while rows of the next and index entries of the one after are loaded
//         pool bags that have all of their rows; defer the others with copies of the rows found
//   fetch the misses of all batches as one device batch; pool the deferred bags
//
// Rows that can be read in place are pooled from the slow tier's memory. After the batch those
// worth it are copied to the fast tier. Rows are pooled in the order of their bag, so a sum does
// not depend on the place of its rows.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/row_loops.hpp"
#include "store/call_meter.hpp"
#include "store/store.hpp"

namespace tieralloc {
namespace {

constexpr std::size_t kBatchRows = 4096;
// Smaller if rows are copied after the batch, so that repeated rows of a call find the copy.
constexpr std::size_t kBatchRowsInPlace = 256;
constexpr std::size_t kGroupRows = 256;
constexpr std::size_t kMaxDeferredBytes = std::size_t{16} << 20;  // copies of rows at a time

std::size_t weight_bytes(const Table& table) {
  return table.layout.dtype == DType::float64 ? sizeof(double) : sizeof(float);
}

}  // namespace

class LookupExecutor {
 public:
  LookupExecutor(Store& store, ReadGuard& guard, std::span<const BagCall> calls, Accesses accesses)
      : store_(store),
        guard_(guard),
        calls_(calls),
        serves_(accesses != Accesses::only_recorded),
        state_(store.states_.of(guard)),
        scratch_(state_.scratch),
        ring_(accesses == Accesses::unrecorded ? nullptr : store.ring_of(state_)),
        promotes_(store.promotion_.promotes()) {}
  ~LookupExecutor() { scratch_.trim(); }
  LookupExecutor(const LookupExecutor&) = delete;

  void execute() {
    if (!serves_ && ring_ == nullptr) return;
    const std::uint64_t began = now_ns();
    try {
      for (const BagCall& call : calls_) {
        begin_call(call);
        for (std::size_t segment = 0; segment < call.segments.size(); ++segment) {
          execute_segment(segment);
        }
      }
      if (ring_ != nullptr && call_ != nullptr) ring_->end_call();
      finish_deferred();
    } catch (...) {
      clear_deferred();
      meter_.fail(calls_);
      throw;
    }
    if (serves_) end_calls(now_ns() - began);
  }

 private:
  /// Calls of equally many bags, one after the other, are recorded as one: they share its samples.
  void begin_call(const BagCall& call) {
    if (ring_ != nullptr && (call_ == nullptr || call_->bags != call.bags)) {
      if (call_ != nullptr) ring_->end_call();
      ring_->begin_call();
    }
    call_ = &call;
    next_index_ = 0;
    weights_ = nullptr;
    columns_.clear();
    std::size_t column = 0;
    for (const TableSegment& segment : call.segments) {
      columns_.push_back(column);
      column += segment.table->layout.columns(call.out_dtype) * size_of(call.out_dtype);
    }
  }

  const Table& table_of(std::size_t segment) const { return *call_->segments[segment].table; }

  /// Whether each bag has one row, and none is padding.
  bool has_one_row_each(std::size_t segment) const {
    return call_->offsets.data == nullptr && call_->segments[segment].padding < 0;
  }

  PoolFunction pool_of(const Table& table) const {
    return choose_pool(table.layout.dtype, call_->out_dtype, call_->mode,
                       call_->weights != nullptr);
  }

  std::byte* out_of(std::size_t segment, std::size_t bag) const {
    return call_->out + bag * call_->out_stride + columns_[segment];
  }

  void execute_segment(std::size_t segment) {
    if (ring_ != nullptr) ring_->begin_segment();
    const Table& table = table_of(segment);
    meter_.begin_segment(table);
    const bool copies = promotes_ && table.slow_rows != nullptr && !table.resident;
    const std::size_t max_rows = copies ? kBatchRowsInPlace : kBatchRows;
    for (std::size_t bag = 0; bag < call_->bags;) {
      const std::size_t first_bag = bag;
      const std::size_t first_index = next_index_;
      next_index_ = call_->take_lengths(segment, bag, next_index_, max_rows, scratch_.lengths);
      bag += scratch_.lengths.size();
      load_batch(segment, first_index, next_index_ - first_index);
      execute_batch(segment, first_bag);
      if (scratch_.misses.rows.size() >= Fetcher::kMaxBatchRows ||
          scratch_.copies.bytes() >= kMaxDeferredBytes) {
        finish_deferred();
      }
    }
  }

  /// Fills in the rows and weights of the batch's bags, whose n indices start at the call's
  /// `begin`-th.
  void load_batch(std::size_t segment, std::size_t begin, std::size_t n) {
    scratch_.rows.resize(n);
    number_rows(table_of(segment), begin);
    if (call_->weights != nullptr) {
      weights_ =
          static_cast<const std::byte*>(call_->weights) + begin * weight_bytes(table_of(segment));
    }
    scratch_.defaults.clear();
    const bool has_defaults = call_->bounds == BoundsCheck::default_row;
    const Table& table = table_of(segment);
    if (has_defaults) {
      DefaultRows::mark(call_->indices, begin, table.layout.rows, scratch_.rows);
    }
    if (call_->segments[segment].padding >= 0) drop_padding(segment);
    if (has_defaults) scratch_.defaults.place(scratch_.rows, table.first_tier_row);
  }

  /// An index outside the table is served as row 0: validate() passes it only for that.
  void number_rows(const Table& table, std::size_t begin) {
    const std::size_t n = scratch_.rows.size();
    const void* indices = call_->indices.data;
    const RowId first = table.first_tier_row.value;
    RowId* rows = row_ids(scratch_.rows.data());
    if (call_->indices.wide) {
      row_loops().number_64(static_cast<const std::int64_t*>(indices) + begin, n, table.layout.rows,
                            first, rows);
    } else {
      row_loops().number_32(static_cast<const std::int32_t*>(indices) + begin, n, table.layout.rows,
                            first, rows);
    }
  }

  /// Removes the padding row and its weights from the batch's bags.
  void drop_padding(std::size_t segment) {
    const Table& table = table_of(segment);
    const TableRow padding{static_cast<RowId>(call_->segments[segment].padding)};
    weights_ = scratch_.drop_row(table.first_tier_row + padding, weights_, weight_bytes(table));
  }

  /// Consecutive bags of the batch: the places of the first bag and of its first row.
  struct Group {
    std::size_t bag = 0;
    std::size_t row = 0;
    std::size_t bags = 0;
    std::size_t rows = 0;
  };

  void execute_batch(std::size_t segment, std::size_t first_bag) {
    const Table& table = table_of(segment);
    const std::size_t n = scratch_.rows.size();
    if (ring_ != nullptr) {
      ring_->push(scratch_.rows, table.store_shift(), scratch_.lengths, has_one_row_each(segment));
    }
    if (!serves_) return;
    meter_.add_lookups(n);
    scratch_.pointers.resize(n);
    if (table.resident) {
      execute_resident(segment, first_bag);
      return;
    }
    FastTier& tier = *table.tier;
    const bool in_place = table.slow_rows != nullptr;
    scratch_.entries.resize(n);
    if (in_place && !promotes_ && execute_in_place(segment, first_bag)) return;
    const bool touches = tier.needs_touches();
    const bool is_concurrent = tier.touch_is_concurrent();
    guard_.begin_read();
    execute_groups(segment, first_bag, touches && is_concurrent);
    guard_.end_read();
    if (touches && !is_concurrent) touch(tier, {.bags = scratch_.lengths.size(), .rows = n});
    if (in_place && promotes_) promote(tier);
  }

  /// Executes a batch of a table that lies in DRAM as a whole.
  void execute_resident(std::size_t segment, std::size_t first_bag) {
    const Group all{.bags = scratch_.lengths.size(), .rows = scratch_.rows.size()};
    guard_.begin_read();
    table_of(segment).resident->locate(row_ids(std::span(scratch_.rows)), scratch_.pointers.data());
    fill_defaults(table_of(segment), all);
    pool(segment, first_bag, all);
    guard_.end_read();
  }

  /// Executes a batch from the slow tier's memory alone. False, with no effect, if the fast tier
  /// has newer values.
  bool execute_in_place(std::size_t segment, std::size_t first_bag) {
    const Table& table = table_of(segment);
    const Group all{.bags = scratch_.lengths.size(), .rows = scratch_.rows.size()};
    guard_.begin_read();
    const bool is_possible = table.tier->is_skippable();
    if (is_possible) {
      std::fill_n(scratch_.pointers.begin(), all.rows, nullptr);
      read_in_place(table, all, all.rows - fill_defaults(table, all));
      pool(segment, first_bag, all);
    }
    guard_.end_read();
    return is_possible;
  }

  /// Fills in the addresses of a group's default rows; returns how many had none.
  std::size_t fill_defaults(const Table& table, const Group& group) {
    if (scratch_.defaults.empty()) return 0;
    return scratch_.defaults.fill(group.row, group.rows, table.default_row.data(),
                                  scratch_.pointers);
  }

  /// Fills in the slow tier's addresses of a group's `absent` rows without an address.
  void read_in_place(const Table& table, const Group& group, std::size_t absent) {
    const std::size_t stride = table.layout.stride;
    for (std::size_t i = group.row; i < group.row + group.rows; ++i) {
      if (scratch_.pointers[i] != nullptr) continue;
      const TableRow row = scratch_.rows[i] - table.first_tier_row;
      scratch_.pointers[i] = table.slow_rows + row.value * stride;
    }
    meter_.add_reads_in_place(absent);
    store_.pool_->emulate_latency(absent * table.tier->lines());
  }

  /// Copies the batch's rows that were read in place often enough.
  void promote(FastTier& tier) {
    const unsigned needed = store_.promotion_.min_accesses(tier.lines());
    std::size_t count = 0;
    for (std::size_t i = 0; i < scratch_.rows.size(); ++i) {
      if (scratch_.entries[i] != kAbsent) continue;
      const TierRow row = scratch_.rows[i];
      if (needed > 1 && tier.count_access(row) < needed) continue;
      scratch_.rows[count++] = row;  // the batch is complete and needs its rows no more
    }
    if (count > 0) store_.promoter_.promote(tier, {scratch_.rows.data(), count});
  }

  Group group_after(const Group& last, bool one_each) const {
    Group group{.bag = last.bag + last.bags, .row = last.row + last.rows};
    if (one_each) {
      group.bags = group.rows = std::min(kGroupRows, scratch_.lengths.size() - group.bag);
      return group;
    }
    while (group.rows < kGroupRows && group.bag + group.bags < scratch_.lengths.size()) {
      group.rows += scratch_.lengths[group.bag + group.bags++];
    }
    return group;
  }

  void execute_groups(std::size_t segment, std::size_t first_bag, bool touches) {
    FastTier& tier = *table_of(segment).tier;
    const bool one_each = has_one_row_each(segment);
    const auto prefetch = [&](const Group& group) {
      tier.prefetch_entries(std::span(scratch_.rows).subspan(group.row, group.rows));
    };
    const auto prepare = [&](const Group& group) {
      const std::size_t found = find_rows(table_of(segment), group);
      if (touches) touch(tier, group);
      return found;
    };
    Group group = group_after({}, one_each);
    Group next = group_after(group, one_each);
    prefetch(group);
    prefetch(next);
    std::size_t found = prepare(group);
    while (group.bags > 0) {
      const Group later = group_after(next, one_each);
      prefetch(later);
      const std::size_t next_found = prepare(next);
      if (found == group.rows) {
        pool(segment, first_bag, group, next.rows);
      } else {
        pool_or_defer(segment, first_bag, group);
      }
      group = next;
      next = later;
      found = next_found;
    }
  }

  /// Fills in the addresses of a group's rows; returns how many have one.
  std::size_t find_rows(const Table& table, const Group& group) {
    FastTier& tier = *table.tier;
    Entry* entries = scratch_.entries.data() + group.row;
    const std::span<const TierRow> rows(scratch_.rows.data() + group.row, group.rows);
    const StagedDelta* overlay = store_.overlay_.load(std::memory_order_seq_cst);  // before `find`
    tier.find(rows, entries);
    const auto [flags, copies] = row_loops().locate(entries, group.rows, tier.row(0), tier.stride(),
                                                    scratch_.pointers.data() + group.row);
    if (overlay != nullptr) Store::overlay(*overlay, tier, rows, &scratch_.pointers[group.row]);
    const std::size_t found = copies + fill_defaults(table, group);
    if (is_prefetched(flags)) count_first_uses(tier, group);
    if (found < group.rows && table.slow_rows != nullptr) {
      const std::size_t absent = group.rows - found;
      read_in_place(table, group, absent);
      // While no copies are made, no copy could have avoided this wait.
      if (promotes_) {
        state_.counters.waited_ns.add(store_.promotion_.ns_in_place(absent * tier.lines()));
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

  /// Notifies the policy of hits, except those of saturated rows.
  void touch(FastTier& tier, const Group& group) {
    scratch_.touched.resize(group.rows);
    scratch_.touched_at.resize(group.rows);
    std::size_t count = 0;
    for (std::size_t i = group.row; i < group.row + group.rows; ++i) {
      const Entry entry = scratch_.entries[i];  // without a branch, which would be unpredictable
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

  /// Pools a group of the batch, all rows of which have an address.
  void pool(std::size_t segment, std::size_t first_bag, const Group& group,
            std::size_t behind = 0) {
    const Table& table = table_of(segment);
    PoolJob job;
    job.rows = scratch_.pointers.data() + group.row;
    job.lengths = has_one_row_each(segment) ? nullptr : scratch_.lengths.data() + group.bag;
    job.bags = group.bags;
    job.behind = behind;
    job.scales = block_scales(table.layout.dtype);
    job.weights = weights_ == nullptr ? nullptr : weights_ + group.row * weight_bytes(table);
    job.dim = table.layout.columns(call_->out_dtype);
    job.out = out_of(segment, first_bag + group.bag);
    job.out_stride = call_->out_stride;
    pool_of(table)(job);
  }

  void pool_or_defer(std::size_t segment, std::size_t first_bag, const Group& group) {
    Group one{.bag = group.bag, .row = group.row, .bags = 1};
    for (; one.bag < group.bag + group.bags; ++one.bag) {
      one.rows = scratch_.lengths[one.bag];
      const auto* begin = scratch_.pointers.data() + one.row;
      if (std::find(begin, begin + one.rows, nullptr) == begin + one.rows) {
        pool(segment, first_bag, one);
      } else {
        defer(segment, first_bag + one.bag, one.row, one.rows);
      }
      one.row += one.rows;
    }
  }

  /// Keeps a bag of n rows for `finish_deferred`, with copies of the rows found.
  void defer(std::size_t segment, std::size_t bag, std::size_t row, std::size_t n) {
    const Table& table = table_of(segment);
    scratch_.deferred.push_back({.call = call_,
                                 .segment = static_cast<std::uint32_t>(segment),
                                 .out = out_of(segment, bag),
                                 .first = scratch_.deferred_rows.size(),
                                 .rows = static_cast<std::uint32_t>(n),
                                 .weights = scratch_.deferred_weights.size()});
    for (std::size_t i = row; i < row + n; ++i) {
      const std::byte* bytes = scratch_.pointers[i];
      scratch_.deferred_rows.push_back(
          bytes != nullptr
              ? reinterpret_cast<std::uintptr_t>(scratch_.copies.push(bytes, table.row_bytes()))
              : scratch_.misses.add(table.tier, scratch_.rows[i], &meter_.table()) *
                        std::uintptr_t{2} +
                    1);
    }
    if (weights_ == nullptr) return;
    const std::size_t width = weight_bytes(table);
    scratch_.deferred_weights.insert(scratch_.deferred_weights.end(), weights_ + row * width,
                                     weights_ + (row + n) * width);
  }

  /// Fetches the misses and pools the deferred bags.
  void finish_deferred() {
    if (scratch_.deferred.empty()) return;
    meter_.set_waited();
    const std::uint64_t began = now_ns();
    store_.fetcher_.fetch(scratch_.misses.rows, scratch_.copies, state_.counters);
    state_.counters.waited_ns.add(now_ns() - began);
    const BagCall* const current = call_;
    for (const DeferredBag& bag : scratch_.deferred) {
      call_ = bag.call;
      scratch_.pointers.clear();
      for (std::size_t i = bag.first; i < bag.first + bag.rows; ++i) {
        const std::uintptr_t row = scratch_.deferred_rows[i];
        scratch_.pointers.push_back((row & 1) != 0 ? scratch_.misses.rows[row >> 1].bytes
                                                   : reinterpret_cast<const std::byte*>(row));
      }
      const Table& table = table_of(bag.segment);
      PoolJob job;
      job.rows = scratch_.pointers.data();
      job.lengths = has_one_row_each(bag.segment) ? nullptr : &bag.rows;
      job.bags = 1;
      job.scales = block_scales(table.layout.dtype);
      job.weights =
          call_->weights == nullptr ? nullptr : scratch_.deferred_weights.data() + bag.weights;
      job.dim = table.layout.columns(call_->out_dtype);
      job.out = bag.out;
      job.out_stride = call_->out_stride;
      pool_of(table)(job);
    }
    call_ = current;
    clear_deferred();
  }

  void clear_deferred() {
    scratch_.misses.clear();
    scratch_.deferred.clear();
    scratch_.deferred_rows.clear();
    scratch_.deferred_weights.clear();
    scratch_.copies.clear();
  }

  void end_calls(std::uint64_t ns) {
    if (store_.pool_->in_place()) store_.promotion_.record_call(promotes_, meter_.lookups(), ns);
    meter_.end(calls_, ns);
  }

  Store& store_;
  ReadGuard& guard_;
  const std::span<const BagCall> calls_;
  const bool serves_;  ///< or only records the accesses
  CallState& state_;
  CallScratch& scratch_;
  AccessRing* const ring_;         ///< null: accesses are not recorded
  const bool promotes_;            ///< whether rows that are read in place are searched for copies
  const BagCall* call_ = nullptr;  ///< in progress
  std::size_t next_index_ = 0;     ///< of its next bag: the lengths of all batches sum up to it
  std::vector<std::size_t> columns_;    ///< bytes before each segment in a line of its result
  const std::byte* weights_ = nullptr;  ///< of the batch; null: none
  CallMeter meter_{state_, store_.tables_.size()};
};

std::uint64_t Store::embedding_bags(std::span<const BagCall> calls, Accesses accesses) {
  check_fork();
  std::uint64_t outside = 0;
  for (const BagCall& call : calls) outside += validate(call);
  std::optional<ReadGuard> guard;
  enter(guard);
  for (const BagCall& call : calls) {
    for (const TableSegment& segment : call.segments) check_live(*segment.table);
  }
  LookupExecutor(*this, *guard, calls, accesses).execute();
  if (outside > 0 && accesses != Accesses::only_recorded) {
    count_outside(calls, states_.of(*guard));
  }
  return outside;
}

}  // namespace tieralloc
