"""What is made of the records of a comparison: ratios beside the paper's, and files."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.paper import page, tuning_page
from bench.paper.claims import CLAIMS, Grid, verdict
from bench.paper.work import first_accesses
from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.tuning import defaults

LOOKUPS = 1000
POLICIES = [
    *(f"{c}+{p}" if p else c for c in ("lru", "s3fifo") for p in ("", *baseline_names())),
    "recmg-caching",
    "recmg",
]


def record(policy, misses, trace="t", fraction=0.05, lag=0, new=10):
    caching, _, prefetching = policy.partition("+")
    return {
        "policy": policy,
        "caching": caching,
        "prefetching": prefetching or "none",
        "trace": trace,
        "fast_fraction": fraction,
        "lookups": LOOKUPS,
        "on_demand_fetches": misses,
        "miss_ratio": misses / LOOKUPS,
        "to_lru": misses / 600,
        "prefetches_issued": 100 if prefetching else 0,
        "accuracy": 0.5 if prefetching else None,
        "coverage": 0.1,
        "lateness": 0.25 if prefetching else None,
        "prefetch_lag": lag,
        "cpu_us_per_access": 1.0,
        "policy_bytes": 1000,
        "first_accesses": new,
        "trace_lookups": 2 * LOOKUPS,
        "machine": "this one",
        "measured_by": "a test",
    }


def records(misses, **common):
    return [record(policy, misses.get(policy, 600), **common) for policy in POLICIES]


def test_ratios_are_how_many_times_fewer_fetches_recmg_leaves():
    grid = Grid(
        [
            *records({"recmg": 200, "lru+domino": 500}),
            *records({"recmg": 100, "lru+domino": 500}, fraction=0.2, new=250),
            *records({"recmg": 1}, lag=16),
        ]
    )
    assert grid.cells == [("t", 0.05), ("t", 0.2)]
    assert grid.ratios("lru+domino") == [2.5, 5]
    assert grid.bounds("lru+domino") == [50, 2]


@pytest.mark.parametrize(
    ("misses", "new", "words"),
    [
        ({"recmg": 200, "lru+domino": 500}, 10, ["2.50 in the median cell", "reached, in 1 of 1"]),
        (
            {"recmg": 500, "lru+domino": 550},
            10,
            ["1.10", "not reached", "the baseline leaves 0.92"],
        ),
        ({"recmg": 500, "lru+domino": 600}, 10, ["1.20", "next to nothing"]),
        ({"recmg": 500, "lru+domino": 550}, 400, ["In 1 of 1 cells nobody could reach it"]),
    ],
)
def test_a_verdict_says_whether_a_claim_holds_and_what_is_known_of_why(misses, new, words):
    text = verdict(CLAIMS[0], Grid(records({"lru": 600, **misses}, new=new)))
    assert "where the paper has 2.2" in text
    assert all(each in text for each in words), text


def test_the_page_has_every_policy_and_every_cell():
    found = [*records({"recmg": 200}), *records({"recmg": 150}, trace="other")]
    found += records({"recmg": 300}, lag=16)
    text = page.markdown(found, ["- Machine: m"], {"t": {"recmg": 12.0}}, {"t": "t.png"})
    for policy in POLICIES:
        assert text.count(f"\n| {policy} |") >= 4
    assert "| Domino (temporal) over LRU | 2.2 | 3.00 ✓ | 4.00 ✓ | 3.50 ✓ |" in text
    assert "![On-demand fetches on t, and miss ratio curves](t.png)" in text
    assert "25.0% late" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert not any("None" in line for line in tables)


def test_what_was_tried_is_kept_whole_and_summed_up():
    baselines = make_baselines(baseline_names()[:-1])
    tried = []
    for name, baseline in baselines.items():
        begin = defaults(baseline)
        last = {**begin, "degree": 2} if "degree" in begin else {**begin, "votes": 0.8}
        common = {"trace": "t", "caching": "lru", "prefetching": name}
        common |= {"fast_fraction": 0.05, "prefetch_lag": 0}
        tried += [
            {**common, "settings": begin, "miss_ratio": 0.5},
            {**common, "settings": last, "miss_ratio": 0.4},
        ]
    cells = json.loads(tuning_page.to_json(tried))
    assert [cell["prefetching"] for cell in cells] == list(baselines)
    for cell in cells:
        rebuilt = dict(zip(cell["settings"], cell["tried"][0], strict=False))
        assert rebuilt == defaults(baselines[cell["prefetching"]])
        assert [each[-1] for each in cell["tried"]] == [0.5, 0.4]
    text = tuning_page.markdown(tried)
    assert "| t | lru | 5% | 2 | 0.5000 | 0.4000 | degree 2 |" in text
    assert "| t | lru | 5% | 2 | 0.5000 | 0.4000 | votes 0.8 |" in text


def test_first_accesses_are_of_rows_never_seen_before():
    accesses = np.array([3, 1, 3, 2, 1, 4, 4], dtype=np.uint64)
    assert first_accesses(accesses, 0) == 4
    assert first_accesses(accesses, 3) == 2
