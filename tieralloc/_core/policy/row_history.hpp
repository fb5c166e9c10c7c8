// row_history.hpp: what was seen of each row, in 16 bytes a row, and the network's features of it.
//
// Accesses are observed in order, sample by sample. The records of a bounded number of rows lie in
// buckets of four, a cache line each, found by the row's hash. A new row takes the place of the
// record in its bucket with the longest time since its last access per squared number of samples
// it was in: rows that return rarely, but do return, are remembered. Two rows of a bucket with
// equal tags share a record: an error in an estimate, one lookup in some ten thousand. Logarithms
// are kept in 8 bits and rounded at random, so that many small steps add up.
//
// Of each of the last samples the rows of up to kContexts context tables are remembered (a user, a
// session): when they were accessed before, and how often. Every call is O(1) a row. Not for
// concurrent use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/types.hpp"

namespace tieralloc {

/// Raised with every change to the values that the same accesses give: older models are refused.
inline constexpr std::uint32_t kRowFeaturesVersion = 4;

inline constexpr std::size_t kContexts = 4;
inline constexpr std::size_t kRowFeatures = 12 + 2 * kContexts;

/// Stands for the logarithm of a time that has not come.
inline constexpr float kNever = 24.0f;

/// Names of the features, in their order.
std::vector<std::string> row_feature_names();

/// What a history is of.
struct HistoryConfig {
  std::vector<RowId> table_starts;           ///< table t has the rows from [t] to [t + 1]; [0] is 0
  std::vector<std::uint32_t> table_numbers;  ///< what the features call table t; empty: t
  std::vector<std::uint32_t> contexts;       ///< context tables
  std::uint32_t remembered = 0;              ///< rows
  std::uint32_t samples = 0;                 ///< whose contexts are remembered
};

class RowHistory {
 public:
  /// Throws std::invalid_argument for table starts that do not ascend from 0, of no table or more
  /// than 65535, for contexts that are no tables or too many, and for no row to remember.
  explicit RowHistory(const HistoryConfig& config);

  /// DRAM of one.
  static std::size_t bytes(const HistoryConfig& config);

  /// The accesses that follow are of the next sample.
  void begin_sample();

  /// An access to a row below `rows()`. Returns the accesses since its last one, ~0 for a row that
  /// is not remembered.
  std::uint32_t observe(RowId row);

  /// Writes kRowFeatures features of each row, as of the last access.
  void write_features(std::span<const RowId> rows, float* features) const;

  /// Requests the memory that `observe` and `write_features` read of a row.
  void prefetch(RowId row) const { __builtin_prefetch(&bucket_of(row)); }

  RowId rows() const { return table_starts_.back(); }
  /// Accesses so far, in wrapping arithmetic.
  std::uint32_t now() const { return now_; }

 private:
  static constexpr std::size_t kWays = 4;
  static constexpr std::size_t kGaps = 3;
  static constexpr std::size_t kDecayed = 3;
  static constexpr std::uint32_t kNoTable = ~0u;

  /// Coded logarithms are as of the last access.
  struct Record {
    std::uint16_t tag = 0;                   ///< of the row; 0: no row
    std::uint16_t sample = 0;                ///< of the last access: the lower half of its number
    std::uint32_t last = 0;                  ///< access, in wrapping arithmetic
    std::array<std::uint8_t, kGaps> gaps{};  ///< times between accesses, the latest first
    std::array<std::uint8_t, kDecayed> decayed{};
    std::uint8_t samples = 0;
    std::uint8_t lifetime = 0;  ///< from its first access
  };
  static_assert(sizeof(Record) == 16);
  struct alignas(kCacheLine) Bucket {
    std::array<Record, kWays> records;
  };

  /// The context rows of a sample, coded.
  struct Context {
    std::uint16_t sample = 0;
    std::array<std::uint8_t, kContexts> gaps{};
    std::array<std::uint8_t, kContexts> samples{};
  };
  struct Table {
    std::uint32_t context = kContexts;  ///< which one it is; kContexts: none
    float number = 0;                   ///< what the features call it
    float known = 0.5f;                 ///< share of its last accesses to rows with a record
  };

  static Context no_context(std::uint16_t sample);
  const Bucket& bucket_of(RowId row) const;
  const Record* find(RowId row) const;
  Record& find_or_replace(RowId row, bool& is_new);
  std::uint32_t table_of(RowId row) const;
  std::uint32_t age(const Record& record) const { return now_ - record.last; }
  float dither() const;
  void note_return(Record& record, float gap);
  void write_row(RowId row, float* features) const;
  void write_context(const Record* record, std::uint32_t own, float* features) const;

  std::vector<RowId> table_starts_;
  std::vector<Table> tables_;
  std::vector<Bucket> buckets_;
  std::vector<Context> contexts_;  ///< of the last samples, a ring; empty: there are no contexts
  std::uint32_t now_ = 0;
  std::uint16_t sample_ = 0;             ///< lower half of its number
  std::uint32_t last_table_ = kNoTable;  ///< of the sample's last access
};

}  // namespace tieralloc
