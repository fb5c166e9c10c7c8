"""Pairs of caching and prefetching: records agree with runs of one pair."""

import numpy as np
import pytest
from tieralloc.policies.baselines.tables import TABLE_BASELINES

from bench.paper.compare import PAIRS, Comparison
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, generate

TABLES = {baseline.name: baseline for baseline in TABLE_BASELINES}


@pytest.fixture(scope="module")
def trace():
    return generate(num_samples=500, num_tables=3)


def test_pairs_have_all_prefetchers_except_recmg_with_others():
    names = ["", "+next-row", "+cooccurrence", "+domino", "+bingo", "+transfetch"]
    simple = [f"{caching}{name}" for caching in ("lru", "s3fifo") for name in names]
    assert list(PAIRS) == [*simple, "recmg-caching", "recmg"]


def test_compare_without_prefetching_equals_simulate(trace):
    comparison = Comparison(trace, TABLES, {})
    for policy in ("lru", "s3fifo"):
        for fraction in (0.05, 0.2):
            record = comparison.measure(PAIRS[policy], fraction)
            (expected,) = simulate(trace, [policy], [fraction])
            for name in ("batch_size", "embedding_dim", "dtype", "rows_per_page"):
                del expected[name]
            assert {name: record[name] for name in expected} == expected
            assert "settings" not in record
            assert record["policy_bytes"] > 0


@pytest.mark.parametrize("prefetching", TABLES)
def test_compare_baseline_has_counts_cost_and_default_settings(prefetching, trace):
    comparison = Comparison(trace, TABLES, {}, tuned=False)
    record = comparison.measure(PAIRS[f"lru+{prefetching}"], 0.1, lag=4)
    alone = comparison.measure(PAIRS["lru"], 0.1)
    assert record["lookups"] == record["hits"] + record["on_demand_fetches"] == alone["lookups"]
    assert record["prefetches_issued"] >= record["prefetches_useful"] > 0
    assert record["prefetches_late"] > 0
    assert record["cpu_us_per_access"] > 0
    assert record["policy_bytes"] > alone["policy_bytes"]
    assert (record["prefetch_lag"], record["settings"]) == (4, {})
    assert "tuning" not in record


def test_tuning_uses_only_uncounted_accesses(trace):
    accesses = trace.accesses()
    half = len(accesses) // 2
    # Equal first halves and different second halves, each a trace of one table.
    streams = [accesses, np.concatenate([accesses[:half], accesses[half:][::-1]])]
    rows = int(trace.num_embeddings.sum())
    one = np.ones(len(accesses), dtype=np.int64)
    first, second = (
        Comparison(Trace.from_accesses(stream, one, ["t"], [rows]), TABLES, {}).measure(
            PAIRS["lru+domino"], 0.1
        )
        for stream in streams
    )
    assert first["tuning"] == second["tuning"]
    assert first["settings"] == second["settings"]
    tried, by_default, best = first["tuning"]
    assert tried > 1
    assert best <= by_default
