// random_order.hpp: orders for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "slow_tier/slow_pool.hpp"

namespace tieralloc {

/// Some rows of a table, all of them or none, on pages of random lengths.
struct RandomOrder {
  RandomOrder(std::uint64_t rows, std::uint32_t rows_per_page, std::mt19937_64& random) {
    arranged.resize(rows);
    std::iota(arranged.begin(), arranged.end(), 0);
    std::shuffle(arranged.begin(), arranged.end(), random);
    if (random() % 4 != 0) arranged.resize(random() % (rows + 1));
    for (std::uint64_t at = 0; at < arranged.size(); at += lengths.back()) {
      lengths.push_back(static_cast<std::uint32_t>(
          std::min<std::uint64_t>(1 + random() % rows_per_page, arranged.size() - at)));
    }
  }
  std::vector<std::uint64_t> arranged;
  std::vector<std::uint32_t> lengths;
};

/// Gives a table with pages an order.
inline void arrange_randomly(TableLayout& table, std::mt19937_64& random) {
  const RandomOrder chosen(table.rows, table.pages.rows_per_page, random);
  if (chosen.arranged.empty()) return;
  table.order = std::make_shared<const RowOrder>(table.name, table.rows, table.pages.rows_per_page,
                                                 chosen.arranged, chosen.lengths);
  table.arranged_rows = table.order->num_rows();
  table.arranged_pages = table.order->num_pages();
}

}  // namespace tieralloc
