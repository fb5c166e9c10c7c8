#include "row_history.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "../simulator.hpp"
#include "fast_log.hpp"

namespace tieralloc {
namespace {

// What is counted rarely enough to be added to, never to wrap.
template <typename Count>
void add_saturating(Count& count) {
  if (count != std::numeric_limits<Count>::max()) ++count;
}

std::uint8_t clip8(std::uint32_t value) {
  return static_cast<std::uint8_t>(std::min<std::uint32_t>(value, 0xFF));
}

// Logarithms in 8 bits, to a tenth.
constexpr float kCode = 10;
constexpr auto kNeverCode = static_cast<std::uint8_t>(kNever * kCode);
std::uint8_t encode(float log) {
  return static_cast<std::uint8_t>(std::min(log * kCode + 0.5f, float{kNeverCode}));
}
float decode(std::uint8_t code) {
  return static_cast<float>(code) * (1 / kCode);
}

template <std::size_t n>
void push_front(std::array<std::uint8_t, n>& codes, std::uint8_t code) {
  std::copy_backward(codes.begin(), codes.end() - 1, codes.end());
  codes[0] = code;
}

/// Samples whose companions are remembered: those of rows accessed before are of no use any more.
std::uint32_t samples_for(std::uint32_t capacity) {
  return capacity / 4 + 1;
}

/// What there is of a decayed count after some accesses.
template <std::size_t n>
std::array<float, n> decay(float accesses, const std::array<float, n>& half_lives) {
  std::array<float, n> left;
  for (std::size_t i = 0; i < n; ++i) left[i] = fast_exp2(-accesses / half_lives[i]);
  return left;
}

constexpr float kForget = 0.002f;  // of a table's means, an access
constexpr float kLeast = 1e-3f;    // added to decayed counts before the logarithm
constexpr float kPrior = 0.3f;     // returns of a newcomer more

constexpr std::size_t kAhead = 8;             // accesses, to ask for memory
constexpr std::uint32_t kLookedAt = 8;        // rows, to forget one
constexpr std::uint32_t kMostMerit = 16;      // samples that make a row memorable, at most
constexpr std::uint32_t kLongest = 1u << 31;  // lifetime, in accesses

constexpr float kNeverRaw = 16777215.0f;  // its log is kNever

/// What logarithms are taken of where there is no companion.
constexpr std::array<float, kContextLogs> kNoContext{1 + kNeverRaw, 1,      1,      1,      1,
                                                     kLeast,        kLeast, kLeast, kPrior, kPrior};

}  // namespace

void check_lengths(std::span<const RowId> rows, std::span<const std::uint32_t> sample_lengths) {
  const auto total =
      std::accumulate(sample_lengths.begin(), sample_lengths.end(), std::uint64_t{0});
  if (total != rows.size()) {
    throw std::invalid_argument("sample_lengths add up to " + std::to_string(total) +
                                ", expected " + std::to_string(rows.size()));
  }
}

RowHistory::RowHistory(std::span<const RowId> table_starts, std::uint32_t capacity,
                       std::span<const std::uint32_t> contexts)
    : table_starts_(table_starts.begin(), table_starts.end()), known_(std::max(capacity, 1u)) {
  if (capacity == 0) throw std::invalid_argument("capacity is 0, expected at least 1 row");
  const bool ascend = std::is_sorted(table_starts.begin(), table_starts.end());
  if (table_starts.size() < 2 || table_starts.size() > 0x10000 || !ascend) {
    throw std::invalid_argument("table_starts do not ascend, or are not of 1 to 65535 tables");
  }
  if (contexts.size() > kContexts) {
    throw std::invalid_argument("contexts are " + std::to_string(contexts.size()) +
                                ", expected at most " + std::to_string(kContexts));
  }
  tables_.resize(table_starts.size() - 1);
  for (std::uint32_t context = 0; context < contexts.size(); ++context) {
    if (contexts[context] >= tables_.size()) {
      throw std::invalid_argument("context table is " + std::to_string(contexts[context]) +
                                  ", expected below " + std::to_string(tables_.size()));
    }
    tables_[contexts[context]].context = context;
  }
  records_.resize(capacity, blank());
  if (!contexts.empty()) samples_.resize(samples_for(capacity));
}

std::size_t RowHistory::bytes(std::uint32_t capacity, bool has_contexts) {
  return RowNumbers::bytes(capacity) + capacity * sizeof(Record) +
         (has_contexts ? samples_for(capacity) * sizeof(Sample) : 0);
}

RowHistory::Record RowHistory::blank() {
  Record record;
  record.gaps.fill(kNeverCode);
  record.sample_gaps.fill(kNeverCode);
  return record;
}

std::uint16_t RowHistory::table_of(RowId row) const {
  const auto after = std::upper_bound(table_starts_.begin(), table_starts_.end(), row);
  return static_cast<std::uint16_t>(after - table_starts_.begin() - 1);
}

void RowHistory::begin_sample() {
  ++sample_;
  sample_position_ = 0;
  last_table_ = ~0u;
  new_rows_ = 0;
  new_rows_of_.fill(0);
  if (samples_.empty()) return;
  Sample& sample = samples_[sample_ % samples_.size()];
  sample.number = static_cast<std::uint32_t>(sample_);
  sample.companions.fill(Companion{});
}

void RowHistory::observe(RowId row) {
  ++now_;
  Number number = known_.find(row);
  const bool is_new = number == kUnknown;
  if (is_new) number = known_.size() < known_.capacity() ? known_.add(row) : forget_one_for(row);
  Record& record = records_[number];
  if (is_new) {
    record = blank();
    record.table = table_of(row);
    record.first = static_cast<std::uint32_t>(now_);
  }
  Table& table = tables_[record.table];
  bag_position_ = record.table == last_table_ ? bag_position_ + 1 : 0;
  last_table_ = record.table;
  table.known += ((is_new ? 0.0f : 1.0f) - table.known) * kForget;
  if (!is_new) note_gap(record, table);
  if (is_new || record.sample != static_cast<std::uint32_t>(sample_)) {
    record.burst = 0;
    add_saturating(record.samples);
  }
  for (float& count : record.decayed) count += 1;
  add_saturating(record.burst);
  ++record.count;
  record.last = static_cast<std::uint32_t>(now_);
  record.sample = static_cast<std::uint32_t>(sample_);
  record.bag_position = clip8(bag_position_);
  record.sample_position = clip8(sample_position_++);
  keep_young(record);
  if (!samples_.empty()) note_context(number, record, is_new);
}

RowHistory::Number RowHistory::forget_one_for(RowId row) {
  Number worst = hand_;
  for (std::uint32_t i = 0; i < std::min(kLookedAt, known_.capacity()); ++i) {
    const Record &record = records_[hand_], &other = records_[worst];
    const auto merit = [](const Record& of) {
      return std::min<std::uint64_t>(of.samples, kMostMerit);
    };
    if (age(record) * merit(other) > age(other) * merit(record)) worst = hand_;
    hand_ = hand_ + 1 == known_.capacity() ? 0 : hand_ + 1;
  }
  known_.replace(worst, row);
  return worst;
}

/// Accesses since its last one.
std::uint32_t RowHistory::age(const Record& record) const {
  return static_cast<std::uint32_t>(now_) - record.last;
}

/// Before the time since its first access is more than can be told: as often as before, of late.
void RowHistory::keep_young(Record& record) const {
  if (static_cast<std::uint32_t>(now_) - record.first < kLongest) return;
  record.first += kLongest / 2;
  record.count /= 2;
}

void RowHistory::note_gap(Record& record, Table& table) {
  const auto gap = static_cast<float>(age(record));
  const float log = fast_log2(gap + 1);
  table.mean_gap += (log - table.mean_gap) * kForget;
  push_front(record.gaps, encode(log));
  const auto left = decay(gap, kHalfLives);
  for (std::size_t i = 0; i < kHalfLives.size(); ++i) record.decayed[i] *= left[i];
  if (record.sample == static_cast<std::uint32_t>(sample_)) return;
  push_front(record.sample_gaps, encode(log));
  note_return(record);
}

/// The companions that a row had are those of a row that came back.
void RowHistory::note_return(const Record& record) {
  const Sample* sample = sample_of(record);
  if (sample == nullptr || age(record) <= kReturns[0]) return;
  for (std::size_t context = 0; context < kContexts; ++context) {
    const Number number = number_of(sample->companions[context]);
    if (number == kUnknown || tables_[record.table].context == context) continue;
    for (std::size_t i = 0; i < kReturns.size(); ++i) {
      if (age(record) > kReturns[i]) records_[number].returns[i] += 1;
    }
  }
}

/// Brings companions and the newcomers of a sample together, whichever is accessed first.
void RowHistory::note_context(Number number, const Record& record, bool is_new) {
  Sample& sample = samples_[sample_ % samples_.size()];
  const std::uint32_t own = tables_[record.table].context;
  if (own != kContexts && sample.companions[own].number == kUnknown) {
    const auto row = static_cast<std::uint32_t>(known_.row_of(number));
    sample.companions[own] = {number, row, record.count};
    records_[number].newcomers += static_cast<float>(new_rows_ - new_rows_of_[own]);
  }
  if (!is_new) return;
  ++new_rows_;
  if (own != kContexts) ++new_rows_of_[own];
  for (std::size_t context = 0; context < kContexts; ++context) {
    const Number companion = number_of(sample.companions[context]);
    if (companion != kUnknown && context != own) records_[companion].newcomers += 1;
  }
}

void RowHistory::check(std::span<const RowId> rows,
                       std::span<const std::uint32_t> sample_lengths) const {
  check_lengths(rows, sample_lengths);
  check_rows(rows, this->rows());
}

void RowHistory::observe(std::span<const RowId> rows,
                         std::span<const std::uint32_t> sample_lengths) {
  check(rows, sample_lengths);
  std::size_t at = 0;
  for (const std::uint32_t length : sample_lengths) {
    begin_sample();
    for (const std::size_t end = at + length; at < end; ++at) {
      if (at + 2 * kAhead < rows.size()) known_.prefetch(rows[at + 2 * kAhead]);
      if (at + kAhead < rows.size()) prefetch_record(rows[at + kAhead]);
      observe(rows[at]);
    }
  }
}

void RowHistory::prefetch_numbered(Number number) const {
  if (number == kUnknown) return;
  __builtin_prefetch(&records_[number]);
}

const RowHistory::Sample* RowHistory::sample_of(const Record& record) const {
  if (samples_.empty()) return nullptr;
  const Sample& sample = samples_[record.sample % samples_.size()];
  return sample.number == record.sample ? &sample : nullptr;
}

RowHistory::Number RowHistory::number_of(const Companion& companion) const {
  if (companion.number == kUnknown) return kUnknown;
  const auto row = static_cast<std::uint32_t>(known_.row_of(companion.number));
  return row == companion.row ? companion.number : kUnknown;
}

void RowHistory::write_features(std::span<const RowId> rows, float* features) const {
  // So that the memory of all rows of a piece is on its way before that of the first is needed.
  constexpr std::size_t kPiece = 16;
  std::array<Number, kPiece> numbers;
  for (std::size_t begin = 0; begin < rows.size(); begin += kPiece) {
    const auto piece = rows.subspan(begin, std::min(kPiece, rows.size() - begin));
    for (const RowId row : piece) known_.prefetch(row);
    for (std::size_t i = 0; i < piece.size(); ++i) {
      numbers[i] = known_.find(piece[i]);
      prefetch_numbered(numbers[i]);
    }
    for (std::size_t i = 0; i < piece.size(); ++i) {
      write_row(piece[i], numbers[i], features);
      features += kRowFeatures;
    }
  }
}

void RowHistory::write_row(RowId row, Number number, float* features) const {
  Record unknown;
  if (number == kUnknown) {
    unknown = blank();
    unknown.table = table_of(row);
  }
  const Record& record = number == kUnknown ? unknown : records_[number];
  float* logs = features + kPlainFeatures;
  write_own(record, features, logs);
  float* context_logs = logs + kOwnLogs;
  float* gaps = context_logs + kContexts * kContextLogs;
  const Sample* sample = number == kUnknown ? nullptr : sample_of(record);
  const std::uint32_t own = tables_[record.table].context;
  for (std::uint32_t context = 0; context < kContexts; ++context) {
    const bool has = sample != nullptr && context != own;
    const Companion* companion = has ? &sample->companions[context] : nullptr;
    write_context(record, companion, context_logs + context * kContextLogs, gaps + context);
  }
  for (float* log = logs; log != gaps; ++log) *log = fast_log2(*log);
}

/// `logs` get what logarithms are to be taken of.
void RowHistory::write_own(const Record& record, float* plain, float* logs) const {
  const Table& table = tables_[record.table];
  const bool known = record.count > 0;
  *plain++ = record.table;
  const auto sample_age = static_cast<std::uint32_t>(sample_) - record.sample;
  *plain++ = known && sample_age == 0 ? 1.0f : 0.0f;
  *plain++ = table.mean_gap;
  *plain++ = table.known;
  for (const std::uint8_t gap : record.gaps) *plain++ = decode(gap);
  for (const std::uint8_t gap : record.sample_gaps) *plain++ = decode(gap);

  const auto age = static_cast<float>(this->age(record));
  const auto lifetime = static_cast<float>(static_cast<std::uint32_t>(now_) - record.first);
  const auto count = static_cast<float>(record.count);
  *logs++ = 1 + (known ? age : kNeverRaw);
  *logs++ = 1 + (known ? static_cast<float>(sample_age) : kNeverRaw);
  *logs++ = 1 + count;
  *logs++ = 1 + static_cast<float>(record.samples);
  *logs++ = 1 + (known ? lifetime : kNeverRaw);
  *logs++ = 1 + (known ? lifetime / count : kNeverRaw);
  *logs++ = 1 + static_cast<float>(record.burst);
  *logs++ = 1 + static_cast<float>(record.bag_position);
  *logs++ = 1 + static_cast<float>(record.sample_position);
  const auto left = decay(age, kHalfLives);
  for (std::size_t i = 0; i < kHalfLives.size(); ++i) {
    *logs++ = kLeast + record.decayed[i] * left[i];
  }
}

void RowHistory::write_context(const Record& own, const Companion* companion, float* logs,
                               float* gap) const {
  const Number number = companion == nullptr ? kUnknown : number_of(*companion);
  if (number == kUnknown) {
    std::copy(kNoContext.begin(), kNoContext.end(), logs);
    *gap = kNever;
    return;
  }
  const Record& record = records_[number];
  const auto age = static_cast<float>(this->age(record));
  // A row that was forgotten in between has been counted anew.
  const std::uint32_t counted = std::min(companion->count, record.count);
  *logs++ = 1 + age;
  const std::uint32_t own_age = this->age(own), record_age = this->age(record);
  *logs++ = 1 + (own_age > record_age ? static_cast<float>(own_age - record_age) : 0.0f);
  *logs++ = 1 + static_cast<float>(record.count);
  *logs++ = 1 + static_cast<float>(record.count - counted);
  *logs++ = 1 + record.newcomers;
  const auto left = decay(age, kHalfLives);
  for (const std::size_t i : kContextHalfLives) *logs++ = kLeast + record.decayed[i] * left[i];
  for (const float returns : record.returns) *logs++ = (returns + kPrior) / (record.newcomers + 1);
  *gap = decode(record.gaps[0]);
}

}  // namespace tieralloc
