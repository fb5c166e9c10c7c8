"""Pairs of caching and prefetching: records agree with runs of one pair."""

import numpy as np
import pytest
from tieralloc.policies.baselines.registry import make_baselines

from bench.paper.compare import Cell, caching_names, cells_of, compare, prefetching_names
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, generate

TABLES = ["next-row", "cooccurrence", "domino", "bingo"]


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=500, num_tables=3)


def run(trace, caching, prefetching, fractions=(0.1,), **options):
    cells = cells_of(caching, prefetching)
    baselines = make_baselines([name for name in prefetching if name in TABLES])
    return compare(trace, cells, fractions, baselines=baselines, learned={}, **options)


def test_cells_have_all_pairs_except_recmg_with_others():
    cells = cells_of(["lru", "s3fifo", "recmg"], ["none", "domino", "recmg"])
    assert [cell.policy for cell in cells] == [
        "lru",
        "lru+domino",
        "s3fifo",
        "s3fifo+domino",
        "recmg-caching",
        "recmg",
    ]
    assert Cell("lru", "bingo").policy == "lru+bingo"


@pytest.mark.parametrize(
    ("caching", "prefetching", "message"),
    [
        (["mru"], ["none"], "caching: unknown 'mru'; expected one of lru, .*recmg"),
        (["lru"], ["ghb"], "prefetching: unknown 'ghb'; expected one of none, next-row"),
        (["opt"], ["none"], "caching: unknown 'opt'"),
        (["lru"], ["recmg"], "prefetching: recmg needs caching recmg; .*got lru"),
    ],
)
def test_cells_of_invalid_pairs_raise(caching, prefetching, message):
    with pytest.raises(ValueError, match=message):
        cells_of(caching, prefetching)


def test_compare_without_prefetching_equals_simulate(trace):
    records = run(trace, ["lru", "s3fifo"], ["none"], (0.05, 0.2)).records
    for record, expected in zip(
        records, simulate(trace, ["lru", "s3fifo"], [0.05, 0.2]), strict=True
    ):
        assert {name: record[name] for name in expected} == expected
        assert (record["prefetching"], record["accuracy"], record["coverage"]) == ("none", None, 0)
        assert record["policy_bytes"] > 0


def test_compare_ratios_follow_from_counts(trace):
    records = run(trace, ["lru", "s3fifo"], ["none", *TABLES], tuned=False, lag=4).records
    (lru,) = simulate(trace, ["lru"], [0.1])
    assert len(records) == 10
    for record in records:
        useful, late = record["prefetches_useful"], record["prefetches_late"]
        fetched = record["on_demand_fetches"]
        assert record["lookups"] == record["hits"] + fetched == lru["lookups"]
        assert record["to_lru"] == pytest.approx(fetched / lru["on_demand_fetches"], abs=1e-6)
        assert record["coverage"] == pytest.approx(useful / (useful + fetched), abs=1e-6)
        if record["prefetching"] == "none":
            continue
        assert record["accuracy"] == pytest.approx(useful / record["prefetches_issued"], abs=1e-6)
        assert record["lateness"] == pytest.approx(late / (late + useful), abs=1e-6)
        assert record["cpu_us_per_access"] > 0
        assert record["settings"]
    assert any(record["prefetches_late"] for record in records)


def test_tuning_uses_only_uncounted_accesses(trace):
    accesses = trace.accesses()
    half = len(accesses) // 2
    one = run(trace, ["lru"], ["domino"])
    # Equal first halves and different second halves, each a trace of one table.
    streams = [accesses, np.concatenate([accesses[:half], accesses[half:][::-1]])]
    traces = [as_trace(stream, int(trace.num_embeddings.sum())) for stream in streams]
    first, second = (run(each, ["lru"], ["domino"]) for each in traces)
    assert first.tried == second.tried
    assert first.records[0]["settings"] == second.records[0]["settings"]
    miss_ratios = {str(each["settings"]): each["miss_ratio"] for each in one.tried}
    assert miss_ratios[str(one.records[0]["settings"])] == min(miss_ratios.values())
    assert {each["fast_rows"] for each in one.tried} == {one.records[0]["fast_rows"]}


def as_trace(accesses, rows):
    lengths = np.ones((1, len(accesses)), dtype=np.int32)
    return Trace(
        indices=accesses.astype(np.int64),
        offsets=np.arange(len(accesses) + 1),
        lengths=lengths,
        table_names=["t"],
        num_embeddings=np.array([rows]),
        name="stream",
    )


def test_compare_progress_sums_to_all_lookups(trace):
    done = []
    run(trace, ["lru"], ["none", "domino"], (0.1, 0.2), tuned=False, progress=done.append)
    assert sum(done) == 2 * 2 * trace.num_lookups


@pytest.mark.parametrize("count_from", [0, 1, -0.5])
def test_compare_without_uncounted_accesses_raises(trace, count_from):
    with pytest.raises(
        ValueError, match=f"count_from: expected above 0 and below 1, got {count_from};"
    ):
        run(trace, ["lru"], ["none"], count_from=count_from)


def test_compare_lists_all_policy_names():
    assert prefetching_names() == [
        "none",
        "next-row",
        "cooccurrence",
        "domino",
        "bingo",
        "transfetch",
        "recmg",
    ]
    assert caching_names()[-1] == "recmg"
    assert {"lru", "s3fifo"} <= set(caching_names())
