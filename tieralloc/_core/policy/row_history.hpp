// row_history.hpp: access history of rows, 16 bytes per row, and the network's features of rows.
//
//   observe(row): update the row's record: last access, gaps between accesses, number of samples,
//                 age, and three access counts that decay with different half-lives
//   features:     logarithms of these, as of the last access
// Records of a bounded number of rows lie in buckets of four, a cache line each, found by the row's
// hash. A new row replaces the record of its bucket with the highest age ÷ (number of samples)²:
// rows that return, however rarely, stay longer. Two rows of a bucket with equal tags share a
// record: an error in an estimate, about one lookup in 10,000. Logarithms are stored in 8 bits with
// stochastic rounding, so that small increments add up.
//
// Context tables identify a user or a session. For each of the last samples the history keeps, per
// context table, the gap and the number of samples of the row accessed last. Every call is O(1) per
// row. Not for concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/memory.hpp"
#include "base/types.hpp"

namespace tieralloc {

/// Increased by every change of the features' values: models of other versions are rejected.
inline constexpr std::uint32_t kRowFeaturesVersion = 4;

inline constexpr std::size_t kContexts = 4;
inline constexpr std::size_t kRowFeatures = 12 + 2 * kContexts;

/// The logarithm that stands for a time without an event.
inline constexpr float kNever = 24.0f;

/// Names of the features, in their order.
std::vector<std::string> row_feature_names();

struct HistoryConfig {
  std::vector<RowId> table_starts;           ///< table t has the rows from [t] to [t + 1]; [0] is 0
  std::vector<std::uint32_t> table_numbers;  ///< feature "table" by table; empty: t
  std::vector<std::uint32_t> contexts;       ///< context tables
  std::uint32_t remembered = 0;              ///< rows with records
  std::uint32_t samples = 0;                 ///< samples with contexts
};

class RowHistory {
 public:
  /// Throws std::invalid_argument for table starts that do not ascend from 0, for 0 or more than
  /// 65535 tables, for contexts that are not tables or too many, and for 0 remembered rows.
  explicit RowHistory(const HistoryConfig& config);

  /// Bytes of DRAM.
  static std::size_t bytes(const HistoryConfig& config);

  /// Starts the next sample.
  void begin_sample();

  /// Observes an access to a row below `rows()`. Returns the accesses since the row's last one; ~0
  /// for a row without a record.
  std::uint32_t observe(RowId row);

  /// Writes kRowFeatures features of each row, as of the last access.
  void write_features(std::span<const RowId> rows, float* features) const;

  /// Appends its memory: that of a history of the same configuration may replace it.
  void add_memory(std::vector<std::span<std::byte>>& parts);

  /// Prefetches the row's record into the CPU cache.
  void prefetch(RowId row) const { __builtin_prefetch(&bucket_of(row)); }

  RowId rows() const { return table_starts_.back(); }
  /// Accesses so far, in wrapping arithmetic.
  std::uint32_t now() const { return now_; }

 private:
  static constexpr std::size_t kWays = 4;
  static constexpr std::size_t kGaps = 3;
  static constexpr std::size_t kDecayed = 3;
  static constexpr std::uint32_t kNoTable = ~0u;

  /// Logarithms are encoded, as of the row's last access.
  struct Record {
    std::uint16_t tag = 0;                   ///< of the row; 0: no row
    std::uint16_t sample = 0;                ///< of the last access: the lower half of its number
    std::uint32_t last = 0;                  ///< last access, in wrapping arithmetic
    std::array<std::uint8_t, kGaps> gaps{};  ///< between accesses, the latest first
    std::array<std::uint8_t, kDecayed> decayed{};  ///< access counts
    std::uint8_t samples = 0;                      ///< with an access to the row
    std::uint8_t lifetime = 0;                     ///< from its first to its last access
  };
  static_assert(sizeof(Record) == 16);
  struct alignas(kCacheLine) Bucket {
    std::array<Record, kWays> records;
  };

  /// The context rows of a sample, encoded.
  struct Context {
    std::uint16_t sample = 0;
    std::array<std::uint8_t, kContexts> gaps{};
    std::array<std::uint8_t, kContexts> samples{};
  };
  struct Table {
    std::uint32_t context = kContexts;  ///< its context; kContexts: none
    float number = 0;                   ///< feature "table"
    float known_share = 0.5f;           ///< of recent accesses, those to rows with a record
  };

  static Context no_context(std::uint16_t sample);
  const Bucket& bucket_of(RowId row) const;
  const Record* find(RowId row) const;
  Record& find_or_replace(RowId row, bool& is_new);
  std::uint32_t find_table(RowId row) const;
  std::uint32_t table_of_access(RowId row) const;
  std::uint32_t age(const Record& record) const { return now_ - record.last; }
  float dither() const;
  void record_gap(Record& record, float gap);
  void write_row(RowId row, float* features) const;
  void write_context(const Record* record, std::uint32_t own, float* features) const;

  std::vector<RowId> table_starts_;
  std::vector<Table> tables_;
  Region memory_;
  std::span<Bucket> buckets_;      ///< filled with zeros: no records
  std::vector<Context> contexts_;  ///< ring of the last samples; empty: no contexts
  std::uint32_t now_ = 0;
  std::uint16_t sample_ = 0;             ///< lower half of its number
  std::uint32_t last_table_ = kNoTable;  ///< table of the sample's last access
};

}  // namespace tieralloc
