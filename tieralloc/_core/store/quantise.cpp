// quantise.cpp: rows quantised, or refused by name.
#include "store/quantise.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/kernels.hpp"

namespace tieralloc {
namespace {

/// Throws std::invalid_argument for a row that cannot be quantised.
[[noreturn]] void refuse_values(const TableLayout& table, TableRow row, const float* values) {
  const std::string place = "table '" + table.name + "', row " + std::to_string(row.value) + ": ";
  for (std::uint32_t j = 0; j < table.dim; ++j) {
    if (std::isfinite(values[j])) continue;
    throw std::invalid_argument(place + "expected finite values to quantise, got " +
                                std::to_string(values[j]) + " in column " + std::to_string(j));
  }
  const auto [min, max] = std::minmax_element(values, values + table.dim);
  throw std::invalid_argument(place +
                              "expected values whose scale and bias float16 can hold, got " +
                              std::to_string(*min) + " to " + std::to_string(*max));
}

}  // namespace

void quantise(const TableLayout& table, const float* values, std::size_t n,
              const std::function<TableRow(std::size_t)>& row_of,
              std::vector<std::byte>& quantised) {
  if (!is_affine(table.dtype)) {
    throw std::invalid_argument("table '" + table.name + "' has no rows of int8 or int4");
  }
  quantised.resize(n * table.row_bytes());
  const std::size_t done = choose_quantise(table.dtype)(values, n, table.dim, quantised.data());
  if (done < n) refuse_values(table, row_of(done), values + done * table.dim);
}

}  // namespace tieralloc
