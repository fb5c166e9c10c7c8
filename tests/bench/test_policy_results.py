"""What is made of the records of policies: ratios, gaps, who is best, tables, files."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.policies.contenders import CHECKS, KNOWN, LABELS, LEARNED, LRU, OPT
from bench.policies.results import Results, by_trace, mean, merge, read_json, write_json
from bench.policies.tables import markdown

FRACTIONS = (0.05, 0.2)
LOOKUPS = 1000


def record(policy, fraction=0.05, misses=500, trace="t", seed=None, **changed):
    return {
        "policy": policy,
        "trace": trace,
        "fast_fraction": fraction,
        "fast_rows": 10,
        "lookups": LOOKUPS,
        "hits": LOOKUPS - misses,
        "on_demand_fetches": misses,
        "miss_ratio": misses / LOOKUPS,
        "prefetches_issued": 0,
        "prefetches_useful": 0,
        "prefetches_late": 0,
        "evictions": None,
        "seed": seed,
        "training_cpu_seconds": None,
        "cpu_us_per_access": 1.0,
        "trace_sha256": "0",
        "trace_lookups": 2 * LOOKUPS,
        "measured_by": "a test",
        "machine": "this one",
    } | changed


counts = st.integers(1, LOOKUPS)
cells = st.fixed_dictionaries({label: st.tuples(counts, counts) for label in LABELS})


def results(cells):
    return Results(
        [
            record(label, fraction, count)
            for label, of_label in cells.items()
            for fraction, count in zip(FRACTIONS, of_label, strict=True)
        ]
    )


@given(cells)
def test_gaps_and_ratios_have_lru_and_opt_as_their_ends(cells):
    found = results(cells)
    for fraction in FRACTIONS:
        assert found.to_lru(LRU, fraction) == 1
        if found.miss_ratio(LRU, fraction) == found.miss_ratio(OPT, fraction):
            assert found.gap_closed("recmg", fraction) is None
        else:
            assert found.gap_closed(LRU, fraction) == 0
            assert found.gap_closed(OPT, fraction) == 1


@given(cells)
def test_the_share_of_the_gap_that_is_closed_says_what_was_missed(cells):
    found = results(cells)
    for fraction in FRACTIONS:
        closed = found.gap_closed("recmg", fraction)
        if closed is not None:
            lru, opt = found.miss_ratio(LRU, fraction), found.miss_ratio(OPT, fraction)
            assert lru - closed * (lru - opt) == pytest.approx(found.miss_ratio("recmg", fraction))


@given(cells)
def test_no_known_policy_misses_less_than_the_best_known_one(cells):
    found = results(cells)
    for fraction in FRACTIONS:
        best = found.best_known(fraction)
        assert best in KNOWN
        assert found.to_best_known(best, fraction) == 1
        assert all(found.to_best_known(label, fraction) >= 1 for label in KNOWN)


def test_neither_opt_nor_what_learns_nor_what_checks_is_a_known_policy():
    assert not {OPT, *LEARNED, *CHECKS.values()} & {*KNOWN}


@given(cells)
def test_a_mean_lies_between_the_cells(cells):
    found = results(cells)
    ratios = [found.to_lru("recmg", fraction) for fraction in FRACTIONS]
    average = mean(found.to_lru, "recmg", FRACTIONS)
    assert min(ratios) - 1e-12 <= average <= max(ratios) + 1e-12


def test_nothing_is_said_of_what_was_not_measured():
    found = Results([record("recmg"), record(LRU, 0.2)])
    assert found.miss_ratio("recmg", 0.2) is None
    assert found.to_lru("recmg", 0.05) is None
    assert found.gap_closed("recmg", 0.05) is None
    assert found.best_known(0.05) is None
    assert mean(found.to_lru, "recmg", FRACTIONS) is None
    assert found.differences(LRU) is None


@given(st.lists(counts, min_size=1, max_size=5))
def test_seeds_of_a_cell_give_their_median_and_range(misses):
    found = Results([record("recmg", misses=n, seed=seed) for seed, n in enumerate(misses)])
    spread = found.range("recmg", 0.05)
    assert (spread.low, spread.high) == (min(misses) / LOOKUPS, max(misses) / LOOKUPS)
    assert spread.seeds == len(misses)
    below = sum(n / LOOKUPS < spread.median for n in misses)
    assert below <= len(misses) / 2


@given(counts, counts)
def test_a_check_tells_by_how_many_fetches_two_simulators_differ(own, theirs):
    found = Results([record(LRU, misses=own), record(CHECKS[LRU], misses=theirs)])
    assert found.differences(LRU) == {0.05: own - theirs}


def test_what_is_measured_anew_replaces_what_was_and_leaves_the_rest():
    kept = [record(LRU, misses=1), record(OPT, misses=2), record("recmg", misses=3, seed=1)]
    other = [record(LRU, misses=4, trace="other")]
    anew = [record("recmg", misses=5, seed=0)]
    merged = merge([*other, *kept], anew)
    assert [(r["trace"], r["policy"], r["on_demand_fetches"]) for r in merged] == [
        ("other", LRU, 4),
        ("t", LRU, 1),
        ("t", "recmg", 5),
        ("t", OPT, 2),
    ]
    assert merge(merged, anew) == merged


@pytest.mark.parametrize("changed", [{"trace_sha256": "1"}, {"fast_fraction": 0.3}])
def test_nothing_is_kept_of_a_trace_or_of_capacities_that_changed(changed):
    anew = [record(OPT)]
    assert merge([record(LRU) | changed], anew) == anew


def test_nothing_is_kept_of_a_policy_that_is_no_longer_compared():
    assert merge([record("forgotten")], [record(LRU)]) == [record(LRU)]


def test_records_are_read_back_as_they_were_written(tmp_path):
    records = [record(LRU), record("recmg", seed=0, machine="µ")]
    write_json(records, tmp_path / "r.json")
    assert read_json(tmp_path / "r.json") == records
    assert read_json(tmp_path / "none.json") == []


@given(cells)
def test_the_table_has_a_line_for_every_policy_compared(cells):
    text = markdown([results(cells)], [], {})
    for label in (*KNOWN, *LEARNED, OPT):
        (line,) = re.findall(
            rf"^\| {re.escape(label)} \| (\**[.\d].*) \|$", miss_ratios(text), re.M
        )
        shown = [float(cell.strip("* ")) for cell in line.split("|")]
        assert shown == [count / LOOKUPS for count in cells[label]]


def miss_ratios(text):
    """The first table of the first trace."""
    return text.partition("## t\n")[2].partition("What learning is worth")[0]


@given(cells)
def test_the_table_ticks_the_cells_that_beat_the_best_known_policy(cells):
    found = results(cells)
    text = markdown([found], [], {})
    for policy in LEARNED:
        (line,) = re.findall(rf"^\| {re.escape(policy)} ÷ best known \|(.*)\|$", text, re.M)
        ticks = ["✓" in cell for cell in line.split("|")[: len(FRACTIONS)]]
        beaten = [found.to_best_known(policy, fraction) < 1 for fraction in FRACTIONS]
        assert ticks == beaten
        (glance,) = re.findall(rf"^\| {re.escape(policy)} \| (\d) of 2 \|", text, re.M)
        assert int(glance) == sum(beaten)


def test_the_table_says_what_was_not_measured_and_why():
    text = markdown([Results([record(LRU)])], [], {"LRB": "it is not there"})
    assert "LRB: it is not there" in text
    assert "| LRB | - |" in text


def test_the_table_shows_prefetches_where_there_were_any():
    ahead = {"prefetches_issued": 400, "prefetches_useful": 100, "prefetches_late": 40}
    text = markdown([Results([record(LRU), record("recmg", seed=0) | ahead])], [], {})
    assert "| recmg | 5% | 0.400 | 25.0% | 10.0% |" in text
    assert "| lru | 5% |" not in text


def test_the_table_says_where_simulators_differ():
    records = [record(LRU, misses=500), record(CHECKS[LRU], misses=497)]
    assert "**differ** by +3 at 5%" in markdown([Results(records)], [], {})


def test_traces_stay_apart():
    records = [record(LRU, trace="a"), record(LRU, trace="b"), record(OPT, trace="a")]
    assert [(each.trace, len(each.records)) for each in by_trace(records)] == [("a", 2), ("b", 1)]
