"""The experiments with trained policies: a small run of each command, and its changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.policies import (
    ablations,
    adversity,
    budget,
    choices,
    cost,
    hindsight,
    libcachesim_caches,
    page_mates,
    served,
    study,
)
from bench.scenery.results import from_columns
from tieralloc import trace as traces
from tieralloc.tools.simulate import simulate
from tieralloc.trace.stream import Stream


@pytest.fixture
def run(tmp_path, capsys):
    """Run an experiment with some of its cases; return its records."""

    def run_study(of, cases):
        chosen = replace(of, cases=cases)
        assert study.main(chosen, "", ["--quick", "--out", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert study.main(chosen, "", ["--show", "--out", str(tmp_path)]) == 0
        assert printed.endswith(capsys.readouterr().out)
        content = json.loads((tmp_path / f"{of.name}.json").read_text())
        assert content["machine"]
        assert str(tmp_path) not in content["command"]
        return from_columns(content)

    return run_study


def test_ablations_differ_in_prefetches(run):
    cases = ("recmg-caching as it is", "a prefetched row costs nothing")
    records = run(ablations.STUDY, cases)
    assert len(records) == 8
    assert all(0 < record["miss_ratio"] < 1 for record in records)
    for record in records:
        assert (record["prefetches_per_access"] > 0) == (record["case"] == cases[1])


def test_adversity_compares_with_simple_policies(run):
    records = run(adversity.STUDY, ("renamed",))
    assert [record["fast_fraction"] for record in records] == list(adversity.FRACTIONS)
    assert all(0.5 < record["caching_to_simple"] < 2 for record in records)
    assert all(0.5 < record["recmg_to_caching"] < 2 for record in records)


def test_budget_measures_each_policy_at_each_budget(run):
    records = run(budget.STUDY, budget.STUDY.cases)
    assert len(records) == 4 * (len(budget.SIMPLE) + len(budget.LEARNED))
    simple = [record for record in records if record["case"] in budget.SIMPLE]
    assert all(0 < record["miss_ratio"] < 1 for record in simple)


def test_budget_max_rows_fits_and_one_more_does_not():
    rows = budget.max_rows(10_000, 100, lambda rows: 8 * rows + 64)
    assert rows * 108 + 64 <= 10_000 < (rows + 1) * 108 + 64
    assert budget.max_rows(50, 100, lambda rows: 0) == 0


@pytest.mark.skipif(
    libcachesim_caches.refusal() is not None, reason=str(libcachesim_caches.refusal())
)
def test_cost_measures_each_policy_with_the_baseline(run):
    records = run(cost.STUDY, cost.STUDY.cases)
    labels = [*cost.NATIVE, *cost.SIMPLE, *cost.LEARNED]
    assert [record["case"] for record in records] == labels * 4
    assert all(record["us_per_access"] > 0 for record in records)
    assert all(r["to_baseline"] == 1 for r in records if r["case"] == cost.BASELINE)


def test_hindsight_trains_on_both_shares(run):
    records = run(hindsight.STUDY, hindsight.STUDY.cases)
    assert len(records) == 4 * len(hindsight.CASES)
    assert all(-1 < record["gap_closed"] < 1 for record in records)


def test_served_counts_near_simulated(run):
    records = run(replace(served.STUDY, policies=("recmg",)), ("s3fifo", "recmg"))
    for record in records:
        assert ("lag" not in record) == (record["case"] == "s3fifo")
        assert record["served"] == pytest.approx(record["simulated"], rel=0.2)


@pytest.fixture(scope="module")
def made():
    return traces.generate(num_samples=600, name="generated")


@pytest.mark.parametrize("name", adversity.CHANGES)
def test_adversity_change_leaves_the_first_half(made, name):
    changed = adversity.changed(made, adversity.CHANGES[name])
    np.testing.assert_array_equal(changed.lengths, made.lengths)
    middle = int(made.lengths[:, : made.num_samples // 2].sum())
    before, after = made.accesses(), changed.accesses()
    np.testing.assert_array_equal(after[:middle], before[:middle])
    assert (after[middle:] != before[middle:]).mean() > 0.3
    again = adversity.changed(made, adversity.CHANGES[name])
    np.testing.assert_array_equal(again.accesses(), after)


def test_adversity_changes_are_as_documented():
    random = np.random.default_rng(0)
    lookups, rows = random.geometric(0.1, 1600) % 50, 50
    counts = np.sort(np.bincount(lookups, minlength=rows))
    for change in (adversity.renamed, adversity.shuffled):
        changed = change(lookups, rows, random)
        np.testing.assert_array_equal(np.sort(np.bincount(changed, minlength=rows)), counts)
    changed = adversity.scanned(lookups, rows, random)
    assert (np.diff(changed[:100]) % rows == 1).all()
    np.testing.assert_array_equal(changed[100:200], lookups[100:200])
    assert np.bincount(adversity.uniform(lookups, rows, random), minlength=rows).min() > 0
    popular = np.sort(np.bincount(adversity.zipf(lookups, rows, random), minlength=rows))
    assert popular[-1] > 4 * popular[rows // 2]


@pytest.mark.parametrize(
    ("file", "before", "after"), choices.CHOICES.values(), ids=list(choices.CHOICES)
)
def test_choice_is_one_line_of_the_source(file, before, after):
    text = (choices.ROOT / file).read_text()
    assert text.count(before) == 1
    assert before not in text.replace(before, after)


def test_page_mates_are_compared_with_none(run):
    cases = (page_mates.NONE, "used soon (knows the future)")
    records = run(page_mates.STUDY, cases)
    assert len(records) == 16
    assert all((record["ratio"] == 1) == (record["case"] == cases[0]) for record in records)
    assert all(record["ratio"] < 1 for record in records if record["case"] == cases[1])


@pytest.mark.parametrize("policy", ["lru", "s3fifo"])
def test_page_mates_without_admission_counts_as_simulate(policy):
    rng = np.random.default_rng(3)
    rows = rng.zipf(1.3, 30000) % 2000
    lengths = np.full(10000, 3)
    trace = traces.Trace.from_accesses(rows, lengths, ["t"], [2000])
    (record,) = simulate(
        *(trace, [policy], [0.1], 0),
        **{"batch_size": page_mates.BATCH_SIZE, "embedding_dim": page_mates.DIM},
    )
    tier = page_mates._tier(policy, record["fast_rows"], page_mates.NONE)
    stream, pages = Stream.of(trace), page_mates.orders(trace)["ids"]
    reads = page_mates.device_reads(stream, pages, tier, page_mates.NONE, 0)
    assert reads == record["on_demand_device_reads"]
