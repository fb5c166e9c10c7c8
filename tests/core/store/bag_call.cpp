// bag_call.cpp: validation of calls.
#include "store/bag_call.hpp"

#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "store/store.hpp"

namespace {

using namespace tieralloc;

struct Bench {
  Table items{.layout = {.name = "items", .rows = 10, .dim = 4}};
  Table users{.layout = {.name = "users", .rows = 100, .dim = 4}};
  std::vector<TableSegment> parts{{&items}, {&users}};
  std::vector<std::int64_t> indices;
  std::vector<std::int64_t> offsets;
  BagCall call;

  Bench(std::size_t bags, std::vector<std::int64_t> indices, std::vector<std::int64_t> offsets)
      : indices(std::move(indices)), offsets(std::move(offsets)) {
    call.segments = parts;
    call.bags = bags;
    call.indices = {this->indices.data(), this->indices.size()};
    call.offsets = {this->offsets.data(), this->offsets.size()};
  }
};

TEST(valid_call_passes) {
  // Two bags a table, with and without the end of the last.
  CHECK_EQ(validate(Bench(2, {1, 9, 0, 99}, {0, 2, 2, 3}).call), 0);
  CHECK_EQ(validate(Bench(2, {1, 9, 0, 99}, {0, 2, 2, 3, 4}).call), 0);
  CHECK_EQ(validate(Bench(2, {}, {0, 0, 0, 0}).call), 0);
  // Indices after the end of the last bag belong to no bag.
  CHECK_EQ(validate(Bench(2, {1, 9, 0, 99, 1000}, {0, 2, 2, 3, 4}).call), 0);
}

TEST(first_index_out_of_range_is_reported) {
  CHECK_THROWS(std::out_of_range, validate(Bench(2, {1, 10, 12, 99}, {0, 1, 3, 3}).call),
               "indices[1]: out of range of table 'items'; expected 0 to 9, got 10");
  CHECK_THROWS(std::out_of_range, validate(Bench(2, {1, 2, 100, 99}, {0, 1, 2, 3}).call),
               "indices[2]: out of range of table 'users'; expected 0 to 99, got 100");
  CHECK_THROWS(std::out_of_range, validate(Bench(1, {-1, 0}, {0, 1}).call),
               "expected 0 to 9, got -1");
  Bench narrow(1, {}, {0, 2});
  const std::int32_t indices[] = {3, 4, -7};
  narrow.call.indices = {indices, 3, false};
  CHECK_THROWS(std::out_of_range, validate(narrow.call), "indices[2]: out of range");
}

TEST(warning_counts_indices_out_of_range) {
  Bench bench(2, {1, 10, -5, 99, 100, 101}, {0, 1, 3, 4});
  bench.call.bounds = BoundsCheck::warning;
  CHECK_EQ(validate(bench.call), 4);
}

TEST(offsets_must_ascend_from_zero_within_the_indices) {
  CHECK_THROWS(std::invalid_argument, validate(Bench(2, {1, 2, 3}, {1, 2, 2, 3}).call),
               "offsets[0]: expected 0, got 1");
  CHECK_THROWS(std::invalid_argument, validate(Bench(2, {1, 2, 3}, {0, 2, 1, 3}).call),
               "offsets[2]: below the one before");
  CHECK_THROWS(std::invalid_argument, validate(Bench(2, {1, 2, 3}, {0, 2, 3, 4}).call),
               "offsets[3]: beyond the indices; expected at most 3, got 4");
  CHECK_THROWS(std::invalid_argument, validate(Bench(2, {1, 2, 3}, {0, -1, 2, 3}).call),
               "offsets[1]: below the one before");
  for (std::size_t wrong : {0, 3, 6}) {
    CHECK_THROWS(std::invalid_argument,
                 validate(Bench(2, {}, std::vector<std::int64_t>(wrong, 0)).call),
                 wrong == 0 ? "indices: expected 4, got 0" : "offsets: expected 4 or 5, got");
  }
}

TEST(without_offsets_every_index_is_a_bag) {
  Bench bench(2, {1, 2, 3, 4}, {});
  bench.call.offsets = {};
  CHECK_EQ(validate(bench.call), 0);
  bench.call.bags = 3;
  CHECK_THROWS(std::invalid_argument, validate(bench.call), "indices: expected 6, got 4");
}

TEST(copied_rows_take_no_offsets_or_padding) {
  Bench bench(2, {1, 2, 3, 4}, {0, 1, 2, 3});
  bench.call.mode = Mode::copy;
  CHECK_THROWS(std::invalid_argument, validate(bench.call), "offsets: no effect on copied rows");
  bench.call.offsets = {};
  CHECK_EQ(validate(bench.call), 0);
  bench.parts[1].padding = 3;
  CHECK_THROWS(std::invalid_argument, validate(bench.call), "padding: no effect on copied rows");
}

TEST(indices_of_one_table_are_validated) {
  const Bench bench(1, {}, {});
  const std::int64_t indices[] = {0, 9, 10};
  CHECK_EQ(validate_rows(bench.items, {indices, 2}, BoundsCheck::fatal), 0);
  CHECK_EQ(validate_rows(bench.items, {indices, 3}, BoundsCheck::warning), 1);
  CHECK_THROWS(std::out_of_range, validate_rows(bench.items, {indices, 3}, BoundsCheck::fatal),
               "indices[2]: out of range of table 'items'");
}

}  // namespace
