// quantise.hpp: rows of floats as quantised rows of a table.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// Quantises `n` rows, `row_of(0)` and on, into `quantised`. Throws std::invalid_argument for a
/// table without quantised rows, and for a row that cannot be quantised, naming it.
void quantise(const TableLayout& table, const float* values, std::size_t n,
              const std::function<TableRow(std::size_t)>& row_of,
              std::vector<std::byte>& quantised);

}  // namespace tieralloc
