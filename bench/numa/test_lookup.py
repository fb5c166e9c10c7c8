"""Lookups of a store with a node's memory as slow tier: in place, resident, and copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import numpy as np
import pytest

import tieralloc as ta
from bench.numa.conftest import Pair
from tieralloc.tools import latency

ROWS = 4096  # per call

dims = pytest.mark.parametrize("dim", [16, 64, 256])
pytestmark = pytest.mark.usefixtures("pinned")


@contextmanager
def filled(pair: Pair, dim: int, is_quick: bool, fast_share: float) -> Iterator[ta.Table]:
    size = 4 << 20 if is_quick else latency.memory_bytes(pair.node)
    rows = size // (4 * dim)
    with ta.TieredStore(
        slow=ta.NumaMemory(pair.node, promotion="always"),
        fast_rows=int(fast_share * rows),
        fast_node=pair.origin,
    ) as store:
        yield store.create_table("bench", rows, dim)


def run(benchmark: Any, table: ta.Table, max_row: int) -> dict[str, Any]:
    """Benchmark lookups of random rows below `max_row`; return the stats."""
    out = np.empty((ROWS, table.embedding_dim), dtype=np.float32)
    calls = cycle(np.random.default_rng(0).integers(0, max_row, (64, ROWS)))
    table.store.reset_stats()
    benchmark(lambda: table.lookup(next(calls), out=out))
    return table.store.stats()


@pytest.mark.benchmark(group="lookup of 4096 rows, in place")
@dims
def test_in_place(benchmark: Any, pair: Pair, is_quick: bool, dim: int) -> None:
    with filled(pair, dim, is_quick, 0) as table:
        stats = run(benchmark, table, len(table))
        assert stats.hits == 0
        assert stats.slow_tier.placement.pages_elsewhere == 0


@pytest.mark.benchmark(group="lookup of 4096 rows, all in the fast tier")
@dims
def test_hits(benchmark: Any, pair: Pair, is_quick: bool, dim: int) -> None:
    with filled(pair, dim, is_quick, 0.25) as table:
        hot = len(table) // 8
        table.pin(np.arange(hot))
        assert run(benchmark, table, hot).on_demand_fetches == 0


@pytest.mark.benchmark(group="lookup of 4096 rows, every one copied")
def test_copies(benchmark: Any, pair: Pair, is_quick: bool) -> None:
    """Measure the cost of promotion without any reuse of copies."""
    with filled(pair, 64, is_quick, 0.1) as table:
        out = np.empty((ROWS, 64), dtype=np.float32)
        order = np.random.default_rng(0).permutation(len(table))
        calls = cycle(order[: len(order) // ROWS * ROWS].reshape(-1, ROWS))
        benchmark(lambda: table.lookup(next(calls), out=out))
        benchmark.extra_info["copy_ns"] = table.store.stats().promotion.copy_ns
