// row_history.cpp: updates records and writes features.
#include "policy/row_history.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "base/split_mix.hpp"
#include "policy/fast_log.hpp"

namespace tieralloc {
namespace {

constexpr Floats4 kCountDecay{-1.0f / 2048, -1.0f / 16384, -1.0f / 262144, 0};  // log2 per access
constexpr Floats4 kCountOffset{1e-3f, 1e-3f, 1e-3f, 0};  // added to counts before logarithms
constexpr float kTableDecay = 0.002f;                    // of a table's known_share, per access
constexpr float kNeverAge = 16777214.0f;                 // log2(1 + kNeverAge) is kNever

// 8-bit codes of logarithms: of times, and of decayed counts of at least 2^kLowestCount.
constexpr float kTimeCode = 10;
constexpr float kCountCode = 10;
constexpr float kLowestCount = -10;
constexpr std::uint8_t kNeverCode = static_cast<std::uint8_t>(kNever * kTimeCode);

std::uint8_t encode(float code) {
  return static_cast<std::uint8_t>(std::clamp(code, 0.0f, 255.0f));
}
float decode_time(std::uint8_t code) {
  return static_cast<float>(code) * (1 / kTimeCode);
}
/// The fourth count is not used.
Floats4 decode_counts(const std::array<std::uint8_t, 3>& codes) {
  const Ints4 integers{codes[0], codes[1], codes[2], 0};
  return __builtin_convertvector(integers, Floats4) * (1 / kCountCode) + kLowestCount;
}

/// log2(1 + n) by n.
constexpr auto kLog1 = [] {
  std::array<float, 256> logs{};
  for (std::size_t n = 0; n < logs.size(); ++n) logs[n] = fast_log2(1 + static_cast<float>(n));
  return logs;
}();

std::size_t buckets_for(std::uint32_t rows) {
  return (std::size_t{rows} + 3) / 4;
}

std::size_t contexts_for(const HistoryConfig& config) {
  if (config.contexts.empty()) return 0;
  return std::bit_ceil(std::clamp<std::size_t>(config.samples, 64, 1 << 15));
}

/// A tag of the row; never 0, which marks an empty record.
std::uint16_t history_tag(std::uint64_t hash) {
  return static_cast<std::uint16_t>((hash >> 40) | 1);
}

void check(const HistoryConfig& config) {
  const std::size_t tables = config.table_starts.size() - 1;
  const bool ascend = std::is_sorted(config.table_starts.begin(), config.table_starts.end());
  if (config.table_starts.size() < 2 || tables > 0xFFFF || !ascend || config.table_starts[0] != 0) {
    throw std::invalid_argument("table_starts: expected to ascend from 0, for 1 to 65535 tables");
  }
  if (config.remembered == 0) {
    throw std::invalid_argument("remembered: expected at least 1 row, got 0");
  }
  if (!config.table_numbers.empty() && config.table_numbers.size() != tables) {
    throw std::invalid_argument("table_numbers: expected " + std::to_string(tables) + ", got " +
                                std::to_string(config.table_numbers.size()));
  }
  if (config.contexts.size() > kContexts) {
    throw std::invalid_argument("contexts: expected at most " + std::to_string(kContexts) +
                                ", got " + std::to_string(config.contexts.size()));
  }
  for (const std::uint32_t table : config.contexts) {
    if (table < tables) continue;
    throw std::invalid_argument("contexts: expected tables below " + std::to_string(tables) +
                                ", got " + std::to_string(table));
  }
}

}  // namespace

std::vector<std::string> row_feature_names() {
  std::vector<std::string> names{
      // Number of the table; 1 if the row was accessed in the current sample; share of the table's
      // recent accesses to rows with a record.
      "table", "in_sample", "table_known",
      // log2(1 + value): the last gaps between accesses; accesses since the last one; samples with
      // the row; accesses since the first one.
      "gap_0", "gap_1", "gap_2", "age", "samples", "lifetime",
      // log2(0.001 + count): access counts with half-lives of this many accesses.
      "decayed_2048", "decayed_16384", "decayed_262144"};
  for (std::size_t i = 0; i < kContexts; ++i) {
    // log2(1 + value) of the context row in the row's last sample: its last gap between accesses;
    // samples with it.
    names.push_back("context_" + std::to_string(i) + "_gap");
    names.push_back("context_" + std::to_string(i) + "_samples");
  }
  return names;
}

RowHistory::RowHistory(const HistoryConfig& config) : table_starts_(config.table_starts) {
  check(config);
  tables_.resize(table_starts_.size() - 1);
  for (std::size_t t = 0; t < tables_.size(); ++t) {
    tables_[t].number =
        static_cast<float>(config.table_numbers.empty() ? t : config.table_numbers[t]);
  }
  for (std::uint32_t i = 0; i < config.contexts.size(); ++i)
    tables_[config.contexts[i]].context = i;
  const std::size_t buckets = buckets_for(config.remembered);
  memory_ = Region(buckets * sizeof(Bucket), "history of rows");
  buckets_ = {memory_.as<Bucket>(), buckets};
  contexts_.resize(contexts_for(config), no_context(0));
}

std::size_t RowHistory::bytes(const HistoryConfig& config) {
  return Region::size_for(buckets_for(config.remembered) * sizeof(Bucket)) +
         contexts_for(config) * sizeof(Context);
}

RowHistory::Context RowHistory::no_context(std::uint16_t sample) {
  Context context{.sample = sample};
  context.gaps.fill(kNeverCode);
  return context;
}

void RowHistory::add_memory(std::vector<std::span<std::byte>>& parts) {
  parts.push_back(std::as_writable_bytes(buckets_));
  parts.push_back(std::as_writable_bytes(std::span(contexts_)));
  parts.push_back(std::as_writable_bytes(std::span(tables_)));
  parts.push_back(std::as_writable_bytes(std::span(&now_, 1)));
  parts.push_back(std::as_writable_bytes(std::span(&sample_, 1)));
}

void RowHistory::begin_sample() {
  ++sample_;
  last_table_ = kNoTable;
  if (!contexts_.empty()) contexts_[sample_ & (contexts_.size() - 1)] = no_context(sample_);
}

const RowHistory::Bucket& RowHistory::bucket_of(RowId row) const {
  const std::uint64_t hash = SplitMix64::mix(row) & 0xFFFFFFFFu;
  return buckets_[static_cast<std::size_t>(hash * buckets_.size() >> 32)];
}

const RowHistory::Record* RowHistory::find(RowId row) const {
  const std::uint16_t tag = history_tag(SplitMix64::mix(row));
  for (const Record& record : bucket_of(row).records) {
    if (record.tag == tag) return &record;
  }
  return nullptr;
}

RowHistory::Record& RowHistory::find_or_replace(RowId row, bool& is_new) {
  const std::uint16_t tag = history_tag(SplitMix64::mix(row));
  auto& records = const_cast<Bucket&>(bucket_of(row)).records;
  is_new = false;
  Record* victim = &records[0];
  const auto merit = [](const Record& of) { return std::uint64_t{of.samples} * of.samples; };
  for (Record& record : records) {
    if (record.tag == tag) return record;
    // An empty record has a merit of 0 and is replaced first.
    if (age(record) * merit(*victim) > age(*victim) * merit(record)) victim = &record;
  }
  is_new = true;
  *victim = Record{.tag = tag};
  victim->gaps.fill(kNeverCode);
  return *victim;
}

std::uint32_t RowHistory::find_table(RowId row) const {
  const auto after = std::upper_bound(table_starts_.begin(), table_starts_.end(), row);
  return static_cast<std::uint32_t>(after - table_starts_.begin() - 1);
}

/// As find_table; most accesses are to the same table as the one before.
std::uint32_t RowHistory::table_of_access(RowId row) const {
  const bool is_last_table = last_table_ != kNoTable && row >= table_starts_[last_table_] &&
                             row < table_starts_[last_table_ + 1];
  return is_last_table ? last_table_ : find_table(row);
}

/// Uniform in [0, 1): added to a code before truncation, for stochastic rounding.
float RowHistory::dither() const {
  return static_cast<float>(now_ * 0x9E3779B1u >> 8) * 0x1p-24f;
}

std::uint32_t RowHistory::observe(RowId row) {
  ++now_;
  bool is_new = false;
  Record& record = find_or_replace(row, is_new);
  last_table_ = table_of_access(row);
  Table& table = tables_[last_table_];
  table.known_share += ((is_new ? 0.0f : 1.0f) - table.known_share) * kTableDecay;
  const std::uint32_t since = is_new ? ~0u : age(record);
  const float gap = is_new ? 0 : static_cast<float>(since);
  if (!is_new) record_gap(record, gap);
  if ((is_new || record.sample != sample_) && record.samples < 0xFF) ++record.samples;
  Floats4 counts = fast_exp2(decode_counts(record.decayed) + gap * kCountDecay);
  counts = is_new ? Floats4{} + 1.0f : counts + 1.0f;
  const Floats4 codes = (fast_log2(counts) - kLowestCount) * kCountCode + dither();
  for (std::size_t i = 0; i < kDecayed; ++i) record.decayed[i] = encode(codes[i]);
  record.last = now_;
  record.sample = sample_;
  if (table.context == kContexts) return since;
  Context& context = contexts_[sample_ & (contexts_.size() - 1)];
  context.gaps[table.context] = record.gaps[0];
  context.samples[table.context] = record.samples;
  return since;
}

/// Records the gap since the row's last access.
void RowHistory::record_gap(Record& record, float gap) {
  std::copy_backward(record.gaps.begin(), record.gaps.end() - 1, record.gaps.end());
  record.gaps[0] = encode(std::min(fast_log2(1 + gap) * kTimeCode + 0.5f, float{kNeverCode}));
  const float lifetime = fast_exp2(decode_time(record.lifetime)) + gap;
  record.lifetime = encode(std::min(fast_log2(lifetime) * kTimeCode + dither(), float{kNeverCode}));
}

void RowHistory::write_features(std::span<const RowId> rows, float* features) const {
  for (const RowId row : rows) prefetch(row);
  for (const RowId row : rows) {
    write_row(row, features);
    features += kRowFeatures;
  }
}

void RowHistory::write_row(RowId row, float* features) const {
  static constexpr Record kUnknown{.gaps = {kNeverCode, kNeverCode, kNeverCode},
                                   .lifetime = kNeverCode};
  const Record* known = find(row);
  const Record& record = known != nullptr ? *known : kUnknown;
  const std::uint32_t table = find_table(row);
  const float age = known != nullptr ? static_cast<float>(this->age(record)) : kNeverAge;
  *features++ = tables_[table].number;
  *features++ = known != nullptr && record.sample == sample_ ? 1.0f : 0.0f;
  *features++ = tables_[table].known_share;
  for (const std::uint8_t gap : record.gaps) *features++ = decode_time(gap);
  *features++ = fast_log2(1 + age);
  *features++ = kLog1[record.samples];
  Floats4 sums = decode_counts(record.decayed) + age * kCountDecay;
  sums[kDecayed] = decode_time(record.lifetime);  // in the lane that counts do not use
  sums = known != nullptr ? fast_exp2(sums) : Floats4{};
  sums[kDecayed] += age;
  const Floats4 logs = fast_log2(sums + kCountOffset);
  *features++ = known != nullptr ? logs[kDecayed] : kNever;
  for (std::size_t i = 0; i < kDecayed; ++i) *features++ = logs[i];
  write_context(known, tables_[table].context, features);
}

/// `own` is the context of the row's own table, which has no information on the row.
void RowHistory::write_context(const Record* record, std::uint32_t own, float* features) const {
  const Context* context = nullptr;
  if (record != nullptr && !contexts_.empty()) {
    const Context& entry = contexts_[record->sample & (contexts_.size() - 1)];
    if (entry.sample == record->sample) context = &entry;
  }
  for (std::size_t i = 0; i < kContexts; ++i) {
    const bool is_informative = context != nullptr && i != own;
    *features++ = is_informative ? decode_time(context->gaps[i]) : kNever;
    *features++ = is_informative ? kLog1[context->samples[i]] : 0;
  }
}

}  // namespace tieralloc
