// page_writer.cpp: pages beside a plain array; torn and damaged pages.
#include "slow_tier/file/page_writer.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>

#include "base/error.hpp"
#include "base/limits.hpp"
#include "check.hpp"
#include "faults.hpp"
#include "slow_tier/file/raw_file.hpp"
#include "slow_tier/random_order.hpp"
#include "support.hpp"

namespace {

using namespace tieralloc;

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kBegin = 2 << 20;
constexpr std::size_t kSector = 512;

std::vector<TableRow> rows_from(std::uint64_t first, std::uint64_t count) {
  std::vector<TableRow> rows(count);
  for (std::uint64_t i = 0; i < count; ++i) rows[i].value = first + i;
  return rows;
}

/// A file of tables, its log, and the value of each row.
class Bench {
 public:
  explicit Bench(const std::string& engine = "pread", bool direct = false,
                 std::mt19937_64* arranging = nullptr) {
    std::uint64_t offset = kBegin;
    for (const auto& [dim, rows] : {std::pair{16u, 1000u},
                                    {48u, 333u},
                                    {340u, 50u},
                                    {1018u, 20u},
                                    {1100u, 20u},
                                    {5000u, 9u}}) {
      TableLayout table{.name = "t" + std::to_string(dim), .rows = rows, .dim = dim};
      table.stride = stride_of(dim, table.dtype);
      table.offset = offset;
      table.pages = PageLayout::paged(table.stride);
      if (arranging != nullptr) arrange_randomly(table, *arranging);
      offset = table.pages_end();
      tables_.push_back(table);
      model_.emplace_back(table.rows, Bytes(table.row_bytes()));
    }
    make_patterned_file(path_, kBegin);
    file_ = std::make_unique<OpenFile>(path_, O_RDWR);
    CHECK_EQ(ftruncate(file_->fd(), static_cast<off_t>(offset)), 0);
    reads_ = std::make_unique<OpenFile>(path_, O_RDONLY | (direct ? O_DIRECT : 0));
    if (reads_->fd() < 0) SKIP("this file system has no direct reads");
    engine_ = make_fetch_engine(engine, {reads_->fd(), direct, 8});
    writer_ = std::make_unique<PageWriter>(file_->fd(), file_->fd(), path_, *engine_);
    reopen_log();
  }

  /// As another process would find the log.
  void reopen_log() {
    log_ =
        std::make_unique<RedoLog>(RedoLog::Options{dir_ / "log-", 5, 0600},
                                  [this](std::uint64_t first, std::uint64_t last, std::uint64_t) {
                                    first_ = first;
                                    last_ = last;
                                  });
    log_->replay(first_, last_, tables_, true);
  }

  const std::vector<TableLayout>& tables() const { return tables_; }
  PageWriter& writer() { return *writer_; }
  RedoLog& log() { return *log_; }
  std::size_t num_intents = 0;

  void update(std::size_t table, const std::vector<TableRow>& rows, std::mt19937_64& random) {
    const TableLayout& layout = tables_[table];
    const Bytes values = random_values(layout, rows.size(), random);
    log_->update(static_cast<std::uint32_t>(table), layout, rows, values.data());
    for (std::size_t i = 0; i < rows.size(); ++i) set_model(table, rows[i].value, values, i);
  }
  void update_random(std::mt19937_64& random) {
    const std::size_t table = random() % tables_.size();
    std::vector<TableRow> rows(1 + random() % 20);
    for (TableRow& row : rows) row.value = random() % tables_[table].rows;
    update(table, rows, random);
  }
  void load(std::size_t table, std::uint64_t first, std::uint64_t rows, std::mt19937_64& random) {
    const TableLayout& layout = tables_[table];
    const Bytes values = random_values(layout, rows, random);
    if (!writer_->load(layout, rows_from(first, rows), values.data())) return;
    for (std::uint64_t i = 0; i < rows; ++i) set_model(table, first + i, values, i);
  }
  PageWriter::Outcome write_back() {
    return writer_->write_back(*log_->sealed(), tables_, 8,
                               [&](std::span<const PageFooter> intents) {
                                 num_intents += intents.size();
                                 log_->add_intents(intents);
                               });
  }
  void seal_and_write_back() {
    if (!log_->seal()) return;
    write_back();
    log_->cut();
  }

  Bytes page(std::uint64_t offset, std::size_t bytes) const {
    Bytes page(bytes);
    CHECK_EQ(pread(file_->fd(), page.data(), bytes, static_cast<off_t>(offset)),
             static_cast<ssize_t>(bytes));
    return page;
  }
  void put(std::uint64_t offset, const Bytes& bytes) {
    CHECK_EQ(pwrite(file_->fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
             static_cast<ssize_t>(bytes.size()));
  }

  /// Every page is valid and has the model's rows.
  void check() const {
    for (std::size_t t = 0; t < tables_.size(); ++t) {
      const TableLayout& table = tables_[t];
      for (std::uint64_t row = 0; row < table.rows; ++row) {
        const RowAddress address = table.address({row});
        const Bytes bytes = page(address.page, table.pages.page_bytes);
        CHECK(is_valid_page(bytes.data(), bytes.size(), address.page));
        check_row(t, row, bytes);
      }
    }
  }
  void check_row(std::size_t table, std::uint64_t row, const Bytes& page) const {
    const Bytes& value = model_[table][row];
    CHECK(std::memcmp(page.data() + tables_[table].address({row}).at, value.data(), value.size()) ==
          0);
  }

 private:
  static Bytes random_values(const TableLayout& table, std::size_t rows, std::mt19937_64& random) {
    Bytes values(rows * table.row_bytes());
    for (std::byte& byte : values) byte = static_cast<std::byte>(random());
    return values;
  }
  void set_model(std::size_t table, std::uint64_t row, const Bytes& values, std::size_t i) {
    const std::size_t size = tables_[table].row_bytes();
    std::memcpy(model_[table][row].data(), values.data() + i * size, size);
  }

  TempDir dir_;
  std::string path_ = dir_ / "file";
  std::vector<TableLayout> tables_;
  std::vector<std::vector<Bytes>> model_;
  std::unique_ptr<OpenFile> file_, reads_;
  std::unique_ptr<FetchEngine> engine_;
  std::unique_ptr<PageWriter> writer_;
  std::unique_ptr<RedoLog> log_;
  std::uint64_t first_ = 0, last_ = 0;
};

void write_random_rows(const std::string& engine, bool direct, std::uint64_t seed) {
  Bench bench(engine, direct);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 8; ++round) {
    for (std::uint64_t i = random() % 20; i > 0; --i) bench.update_random(random);
    bench.seal_and_write_back();
    for (int i = 0; i < 4; ++i) {
      const std::size_t table = random() % bench.tables().size();
      const std::uint64_t rows = bench.tables()[table].rows;
      const std::uint64_t first = random() % rows;
      bench.load(table, first, 1 + random() % (rows - first), random);
    }
    bench.check();
  }
}

TEST(written_rows_equal_a_plain_array) {
  for (const std::string& engine : fetch_engine_names()) {
    if (!fetch_engine_refusal(engine).empty()) continue;
    write_random_rows(engine, false, 1);
  }
}

TEST(rows_written_beside_direct_reads_equal_a_plain_array) {
  for (const std::string& engine : fetch_engine_names()) {
    if (fetch_engine_refusal(engine).empty()) write_random_rows(engine, true, 2);
  }
}

TEST(written_rows_of_arranged_tables_equal_a_plain_array) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 6; ++i) {
    Bench bench("pread", false, &random);
    for (int round = 0; round < 6; ++round) {
      for (std::uint64_t i = random() % 20; i > 0; --i) bench.update_random(random);
      bench.seal_and_write_back();
      bench.check();
    }
    // All rows of all pages: no page is read.
    for (std::size_t table = 0; table < bench.tables().size(); ++table) {
      bench.update(table, rows_from(0, bench.tables()[table].rows), random);
    }
    bench.seal_and_write_back();
    bench.check();
  }
}

TEST(rows_of_pages_are_those_with_addresses_in_them) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 10; ++i) {
    const Bench bench("pread", false, &random);
    for (const TableLayout& table : bench.tables()) {
      std::map<std::uint64_t, std::vector<TableRow>> pages;
      for (const TableRow row : rows_from(0, table.rows)) {
        pages[table.address(row).page].push_back(row);
        CHECK(row_at(table, table.address(row).offset()) == row);
        CHECK(table_at(bench.tables(), table.address(row).page) == &table);
      }
      CHECK_EQ(pages.size(), table.num_pages());
      for (const auto& [page, rows] : pages) CHECK(rows_of_page(table, page) == rows);
    }
  }
}

TEST(load_of_written_pages_is_refused) {
  Bench bench;
  std::mt19937_64 random(1);
  bench.load(0, 63, 63, random);
  bench.load(0, 126, 100, random);
  const TableLayout& table = bench.tables()[0];
  const Bytes values(1000 * 64, std::byte{1});
  for (const auto& [first, rows] : {std::pair{0u, 64u}, {63u, 1u}, {224u, 10u}, {0u, 1000u}}) {
    CHECK(!bench.writer().load(table, rows_from(first, rows), values.data()));
  }
  bench.check();
}

TEST(many_pages_are_written_in_batches) {
  Bench bench;
  std::mt19937_64 random(1);
  for (int round = 0; round < 2; ++round) {
    std::size_t pages = 0;
    for (std::size_t t = 0; t < bench.tables().size(); ++t) {
      const TableLayout& table = bench.tables()[t];
      for (std::uint64_t row = 0; row < table.rows; row += table.pages.rows_per_page) {
        bench.update(t, {{row}}, random);
        ++pages;
      }
    }
    CHECK(bench.log().seal());
    bench.num_intents = 0;
    CHECK_EQ(bench.write_back().written_rows, pages);
    CHECK_EQ(bench.num_intents, pages);
    bench.log().cut();
    bench.check();
  }
}

/// A power cut leaves any mixture of sectors. The next write-back mends the page, and so does
/// `recover`, in the same process and in the next.
void mend_every_mixture(std::size_t table, const std::vector<TableRow>& rows) {
  Bench bench;
  std::mt19937_64 random(table);
  bench.load(table, 0, bench.tables()[table].rows, random);
  const TableLayout& layout = bench.tables()[table];
  const std::uint64_t offset = layout.address(rows[0]).page;
  const std::size_t bytes = layout.pages.page_bytes;
  const Bytes before = bench.page(offset, bytes);
  bench.update(table, rows, random);
  bench.log().seal();
  bench.write_back();
  const Bytes after = bench.page(offset, bytes);
  const std::size_t sectors = bytes / kSector;
  const std::size_t step = sectors > 8 ? 331 : 1;
  for (std::size_t mixture = 0; mixture < std::size_t{1} << sectors; mixture += step) {
    Bytes torn = before;
    for (std::size_t sector = 0; sector < sectors; ++sector) {
      if ((mixture >> sector & 1) == 0) continue;
      std::memcpy(torn.data() + sector * kSector, after.data() + sector * kSector, kSector);
    }
    bench.put(offset, torn);
    if (mixture % 5 == 0) bench.reopen_log();
    Bytes mended(bytes);
    const bool is_valid = is_valid_page(torn.data(), bytes, offset);
    CHECK_EQ(bench.writer().recover(offset, mended, layout, bench.log().sealed().get()), 0);
    CHECK(is_valid_page(mended.data(), bytes, offset));
    CHECK(mended == (is_valid ? torn : after));
    CHECK(bench.page(offset, bytes) == torn);
    CHECK_EQ(bench.writer().recover(offset, mended, layout, nullptr), is_valid ? 0 : -EBADMSG);
    bench.num_intents = 0;
    bench.write_back();
    CHECK_EQ(bench.num_intents, 0);  // the page has its intended footer
    CHECK(bench.page(offset, bytes) == after);
  }
  bench.check();
}

TEST(every_torn_page_of_small_rows_is_mended) {
  mend_every_mixture(0, {{3}, {30}, {62}});
}
TEST(every_torn_page_of_three_rows_is_mended) {
  mend_every_mixture(2, {{4}});
}
TEST(every_torn_page_of_one_row_is_mended) {
  mend_every_mixture(3, {{7}});
}
TEST(torn_pages_of_large_rows_are_mended) {
  mend_every_mixture(4, {{7}});
}

/// Write-backs of one page, and a power cut in the last.
TEST(torn_page_is_mended_after_its_other_rows_changed) {
  Bench bench;
  std::mt19937_64 random(1);
  bench.update(0, {{1}, {2}}, random);
  bench.seal_and_write_back();
  bench.update(0, {{5}, {6}, {7}}, random);
  bench.seal_and_write_back();
  const Bytes before = bench.page(kBegin, kPage);
  bench.update(0, {{2}, {40}}, random);
  bench.log().seal();
  bench.write_back();
  Bytes torn = bench.page(kBegin, kPage);
  std::memcpy(torn.data() + 7 * kSector, before.data() + 7 * kSector, kSector);
  bench.put(kBegin, torn);
  bench.reopen_log();
  bench.update(0, {{2}, {41}}, random);  // in a later segment
  bench.write_back();
  bench.log().cut();
  bench.seal_and_write_back();
  bench.check();
}

/// The second batch of a write-back is torn; the process after that ends in the first batch.
TEST(intents_of_an_earlier_write_back_stay) {
  Bench bench;
  std::mt19937_64 random(1);
  bench.load(0, 0, 1000, random);
  const Bytes before = bench.page(kBegin + kPage, kPage);
  bench.update(0, {{1}, {64}}, random);
  bench.log().seal();
  bench.write_back();
  Bytes torn = bench.page(kBegin + kPage, kPage);
  std::memcpy(torn.data(), before.data(), kSector);
  for (int process = 0; process < 3; ++process) {
    bench.put(kBegin + kPage, torn);
    bench.reopen_log();
    Bytes mended(kPage);
    CHECK_EQ(bench.writer().recover(kBegin + kPage, mended, bench.tables()[0],
                                    bench.log().sealed().get()),
             0);
    CHECK_THROWS(
        SystemFailure,
        [&] {
          faults::Fault fault(faults::Call::write, EIO);
          bench.write_back();
        }(),
        "cannot write");
  }
  bench.write_back();
  bench.check();
}

TEST(rows_of_a_damaged_page_are_not_written) {
  Bench bench;
  std::mt19937_64 random(1);
  bench.load(0, 0, 1000, random);
  const TableLayout& table = bench.tables()[0];
  const Bytes whole = bench.page(kBegin + kPage, kPage);
  Bytes damaged = whole;
  damaged[100] ^= std::byte{1};
  bench.put(kBegin + kPage, damaged);
  bench.update(0, {{64}, {200}}, random);
  bench.log().seal();
  const std::vector<std::uint64_t> row{table.address({64}).offset()};
  for (int i = 0; i < 2; ++i) {
    const PageWriter::Outcome outcome = bench.write_back();
    CHECK(outcome.damaged_rows == row);
    CHECK_EQ(outcome.written_rows, 1);
    CHECK(bench.page(kBegin + kPage, kPage) == damaged);
  }
  // Damage elsewhere in a torn page: its rows are not what they were to become.
  bench.put(kBegin + kPage, whole);
  CHECK(bench.write_back().damaged_rows.empty());
  Bytes torn = bench.page(kBegin + kPage, kPage);
  torn[5 * kSector] ^= std::byte{1};
  bench.put(kBegin + kPage, torn);
  Bytes mended(kPage);
  CHECK_EQ(bench.writer().recover(kBegin + kPage, mended, table, bench.log().sealed().get()),
           -EBADMSG);
  CHECK(bench.write_back().damaged_rows == row);
  bench.log().cut();
  // A page whose rows are all set needs no earlier value.
  std::vector<TableRow> rows;
  for (std::uint64_t i = 63; i < 126; ++i) rows.push_back({i});
  bench.update(0, rows, random);
  bench.seal_and_write_back();
  bench.check();
}

TEST(page_is_described_by_its_rows) {
  Bench bench;
  const auto& tables = bench.tables();
  CHECK_EQ(describe_page(tables, kBegin), "table 't16', rows 0 to 62");
  CHECK_EQ(describe_page(tables, kBegin + 15 * kPage), "table 't16', rows 945 to 999");
  CHECK_EQ(describe_page(tables, tables[4].offset + tables[4].pages.page_bytes),
           "table 't1100', rows 1 to 1");
  CHECK_EQ(describe_page(tables, 0), "offset 0");
  CHECK(table_at(tables, kBegin - 1) == nullptr);
  const TableLayout& last = tables.back();
  CHECK(table_at(tables, last.offset + last.pages.bytes(last.rows) - 1) == &last);
  CHECK(table_at(tables, last.offset + last.pages.bytes(last.rows)) == nullptr);
}

TEST(truncated_file_is_reported_by_recover) {
  Bench bench;
  Bytes bytes(kPage);
  const TableLayout& last = bench.tables().back();
  CHECK_EQ(bench.writer().recover(last.offset + last.pages.bytes(last.rows), bytes, last, nullptr),
           -ENODATA);
}

}  // namespace
