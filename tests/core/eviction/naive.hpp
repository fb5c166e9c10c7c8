// naive.hpp: naive implementations of the eviction policies, after their papers, with linear
// search.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/types.hpp"

struct NaivePolicy {
  virtual ~NaivePolicy() = default;
  virtual void insert(tieralloc::RowId row) = 0;
  virtual void touch(tieralloc::RowId row) = 0;
  virtual tieralloc::RowId evict() = 0;  ///< kNoRow if there is no row
  virtual void remove(tieralloc::RowId row) = 0;
};

/// Null for a policy that is not deterministic.
std::unique_ptr<NaivePolicy> make_naive_policy(const std::string& name, std::uint32_t capacity);
