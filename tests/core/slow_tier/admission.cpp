// admission.cpp: when copies are made, as told by times that the test makes up.
#include "slow_tier/admission.hpp"

#include "check.hpp"

namespace {

using namespace tieralloc;

constexpr LineCosts kFar{.slow_ns = 60, .fast_ns = 20};
constexpr std::uint64_t kCapacity = 1000;

struct Served {
  std::uint64_t with_copies = 0, in_place = 0;
  double share() const {
    return static_cast<double>(with_copies) / static_cast<double>(with_copies + in_place);
  }
};

/// Serves calls of 256 rows that take so many ns a row with copies and without.
Served serve(Admission& admission, std::uint64_t rows, std::uint64_t with_ns,
             std::uint64_t without_ns) {
  Served served;
  for (std::uint64_t done = 0; done < rows; done += 256) {
    const bool admits = admission.admits();
    (admits ? served.with_copies : served.in_place) += 256;
    admission.note_call(admits, 256, 256 * (admits ? with_ns : without_ns));
  }
  return served;
}

TEST(admission_keeps_what_is_faster) {
  Admission admission(AdmissionRule::automatic, kFar);
  admission.begin(kCapacity);
  CHECK(admission.admits());
  const Served faster = serve(admission, 10'000'000, 50, 70);
  CHECK(faster.share() > 0.94);  // three trials, half of each without
  CHECK(admission.view().trials > 1);
  CHECK_EQ(admission.view().with_copies_ns, 50);
  CHECK_EQ(admission.view().in_place_ns, 70);
  const Served slower = serve(admission, 100'000'000, 90, 70);
  CHECK(!admission.view().admits || slower.share() < 0.5);
}

TEST(copies_that_never_pay_cost_little_of_the_time) {
  Admission admission(AdmissionRule::automatic, kFar);
  admission.begin(kCapacity);
  serve(admission, 1'000'000, 90, 70);
  const Served later = serve(admission, 50'000'000, 90, 70);
  CHECK(later.share() < 0.1);
  CHECK(later.with_copies > 0);  // it tries again
}

TEST(a_load_that_turns_is_followed) {
  Admission admission(AdmissionRule::automatic, kFar);
  admission.begin(kCapacity);
  serve(admission, 20'000'000, 90, 70);
  serve(admission, 80'000'000, 50, 70);
  CHECK(serve(admission, 20'000'000, 50, 70).share() > 0.9);
}

TEST(tiers_of_one_cost_are_not_tried) {
  Admission admission(AdmissionRule::automatic, {.slow_ns = 21, .fast_ns = 20});
  admission.begin(kCapacity);
  CHECK_EQ(serve(admission, 10'000'000, 10, 70).with_copies, 0);
}

TEST(rules_are_kept_whatever_is_measured) {
  Admission always(AdmissionRule::always, {.slow_ns = 20, .fast_ns = 20});
  always.begin(kCapacity);
  CHECK_EQ(serve(always, 10'000'000, 90, 70).in_place, 0);
  CHECK_EQ(always.accesses_needed(1), 1);
  Admission never(AdmissionRule::never, kFar);
  never.begin(kCapacity);
  CHECK_EQ(serve(never, 10'000'000, 10, 70).with_copies, 0);
  for (const auto rule : {AdmissionRule::always, AdmissionRule::automatic}) {
    Admission nowhere(rule, kFar);  // to copy to
    nowhere.begin(0);
    CHECK(!nowhere.admits());
  }
}

TEST(a_row_is_copied_once_it_has_cost_what_its_copy_does) {
  Admission admission(AdmissionRule::automatic, kFar);  // 40 ns a line beyond a hit
  admission.begin(kCapacity);
  admission.note_copies(10, 4000);
  CHECK_EQ(admission.accesses_needed(1), 10);
  CHECK_EQ(admission.accesses_needed(4), 3);  // 160 ns, the third time makes 480 of 400
  CHECK_EQ(admission.accesses_needed(16), 1);
  // One copy that was interrupted changes little.
  admission.note_copies(1, 1'000'000'000);
  CHECK(admission.accesses_needed(4) <= 4);
}

}  // namespace
