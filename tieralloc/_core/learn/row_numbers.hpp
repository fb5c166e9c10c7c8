// row_numbers.hpp: numbers a bounded set of rows, by hashing.
//
// All memory is taken at construction; every call is expected O(1). Not for concurrent use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../types.hpp"

namespace tieralloc {

class RowNumbers {
 public:
  using Number = std::uint32_t;
  static constexpr Number kUnknown = 0xFFFFFFFFu;

  /// For up to `capacity` rows, at least 1, numbered from 0.
  explicit RowNumbers(std::uint32_t capacity) : entries_(capacity), heads_(capacity, kUnknown) {}

  static constexpr std::size_t bytes(std::uint32_t capacity) {
    return capacity * (sizeof(Entry) + sizeof(Number));
  }

  std::uint32_t size() const { return size_; }
  std::uint32_t capacity() const { return static_cast<std::uint32_t>(entries_.size()); }

  Number find(RowId row) const {
    Number number = heads_[chain_of(row)];
    while (number != kUnknown && entries_[number].row != row) number = entries_[number].chain;
    return number;
  }

  /// Asks for the memory that finding a row reads first.
  void prefetch(RowId row) const { __builtin_prefetch(&heads_[chain_of(row)]); }

  RowId row_of(Number number) const { return entries_[number].row; }

  /// Numbers a row that has no number, while there are numbers left.
  Number add(RowId row) {
    put(size_, row);
    return size_++;
  }

  /// Gives the number of a row to another, which has none.
  void replace(Number number, RowId row) {
    Number* link = &heads_[chain_of(entries_[number].row)];
    while (*link != number) link = &entries_[*link].chain;
    *link = entries_[number].chain;
    put(number, row);
  }

 private:
  struct Entry {
    RowId row;
    Number chain;  ///< the next of the same hash
  };

  std::size_t chain_of(RowId row) const {
    const std::uint64_t hash = ((row ^ (row >> 32)) * 0x9E3779B97F4A7C15u) >> 32;
    return hash * heads_.size() >> 32;
  }

  void put(Number number, RowId row) {
    Number& head = heads_[chain_of(row)];
    entries_[number] = {row, head};
    head = number;
  }

  std::vector<Entry> entries_;  ///< by number
  std::vector<Number> heads_;   ///< by hash
  std::uint32_t size_ = 0;
};

}  // namespace tieralloc
