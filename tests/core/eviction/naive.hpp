// naive.hpp: the eviction policies once more, from their papers, in the most obvious way: lists of
// rows that are searched from end to end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/types.hpp"

struct NaivePolicy {
  virtual ~NaivePolicy() = default;
  virtual void insert(tieralloc::RowId row) = 0;
  virtual void touch(tieralloc::RowId row) = 0;
  virtual tieralloc::RowId evict() = 0;  ///< kNoRow where there is none
  virtual void remove(tieralloc::RowId row) = 0;
};

/// Null for a policy that has no deterministic oracle.
std::unique_ptr<NaivePolicy> make_naive_policy(const std::string& name, std::uint32_t capacity);
