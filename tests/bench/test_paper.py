"""`python -m bench.paper`: a quick run, and the ratios compared with those of the paper."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.paper.__main__ import main
from bench.paper.claims import CLAIMS, Grid, verdict
from bench.paper.compare import PAIRS
from bench.paper.measure import first_accesses
from bench.scenery.results import from_columns

LOOKUPS = 1000


def grid(cells):
    """Return a grid of cells (first accesses, misses by policy); 600 misses by default."""
    records = [
        {
            "policy": policy,
            "trace": f"t{number}",
            "fast_fraction": 0.05,
            "lookups": LOOKUPS,
            "on_demand_fetches": misses.get(policy, 600),
        }
        for number, (_, misses) in enumerate(cells)
        for policy in PAIRS
    ]
    late = [{**records[0], "on_demand_fetches": 1, "prefetch_lag": 16}]
    facts = {f"t{number}": {"first_accesses": new} for number, (new, _) in enumerate(cells)}
    return Grid([*records, *late], facts)


def test_grid_ratios_are_fetches_over_those_of_recmg():
    cells = grid([(10, {"recmg": 200, "lru+domino": 500}), (250, {"recmg": 100})])
    assert cells.ratios("lru+domino") == [2.5, 6]
    assert cells.bounds("lru+domino") == [50, 2.4]


@pytest.mark.parametrize(
    ("misses", "new", "row"),
    [
        ({"recmg": 200, "lru+domino": 500}, 10, ["2.50 ✓", "1 of 1", "0.83", "0.33", "0 of 1"]),
        ({"recmg": 500, "lru+domino": 550}, 400, ["1.10", "0 of 1", "0.92", "0.83", "1 of 1"]),
    ],
)
def test_verdict_compares_with_the_paper_and_the_bound(misses, new, row):
    assert verdict(CLAIMS[0], grid([(new, misses)])) == ["Domino (temporal)", "2.2", *row]


def test_first_accesses_count_new_rows():
    accesses = np.array([3, 1, 3, 2, 1, 4, 4], dtype=np.uint64)
    assert first_accesses(accesses, 0) == 4
    assert first_accesses(accesses, 3) == 2


def test_quick_run_writes_records_and_page(tmp_path):
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "paper.json").read_text())
    page = (tmp_path / "results.md").read_text()
    for policy in PAIRS:
        assert page.count(f"\n| {policy} ") >= 3, policy
    assert "% late" in page
    assert str(tmp_path) not in page
    cells = [(r["policy"], r["fast_fraction"], "prefetch_lag" in r) for r in from_columns(content)]
    assert len(set(cells)) == len(cells) == 3 * len(PAIRS)
    assert main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.md").read_text() == page
