"""Lookups of a store whose slow tier is a node's memory: in place, found in a copy, and copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tieralloc as ta
from bench.numa.conftest import Pair
from tieralloc.tools import latency

ROWS = 4096  # of a call


@contextmanager
def filled(
    pair: Pair, dim: int, smoke: bool, fast_share: float, admission: str = "always"
) -> Iterator[tuple[ta.TieredStore, ta.Table, int]]:
    size = 4 << 20 if smoke else latency.memory_bytes(pair.node)
    rows = size // (4 * dim)
    with ta.TieredStore(
        slow=ta.NumaMemory(pair.node, promotion=admission),
        fast_rows=int(fast_share * rows),
        fast_node=pair.origin,
    ) as store:
        table = store.create_table("bench", rows, dim)
        yield store, table, rows


def calls(rows: int, most: int | None = None) -> Iterator[NDArray[np.int64]]:
    random = np.random.default_rng(0)
    drawn = random.integers(0, rows if most is None else most, (64, ROWS))
    while True:
        yield from drawn


@pytest.mark.benchmark(group="lookup of 4096 rows, in place")
@pytest.mark.parametrize("dim", [16, 64, 256])
@pytest.mark.usefixtures("add_info")
def test_in_place(benchmark: Any, pair: Pair, smoke: bool, dim: int) -> None:
    with filled(pair, dim, smoke, 0) as (store, table, rows):
        out = np.empty((ROWS, dim), dtype=np.float32)
        wanted = calls(rows)
        benchmark(lambda: table.lookup(next(wanted), out=out))
        stats = store.stats()
        assert stats["hits"] == 0
        assert stats["slow_tier"]["placement"]["pages_elsewhere"] == 0


@pytest.mark.benchmark(group="lookup of 4096 rows, all in the fast tier")
@pytest.mark.parametrize("dim", [16, 64, 256])
@pytest.mark.usefixtures("add_info")
def test_hits(benchmark: Any, pair: Pair, smoke: bool, dim: int) -> None:
    with filled(pair, dim, smoke, 0.25) as (store, table, rows):
        hot = np.arange(rows // 8)
        table.pin(hot)
        store.reset_stats()
        out = np.empty((ROWS, dim), dtype=np.float32)
        wanted = calls(rows, most=len(hot))
        benchmark(lambda: table.lookup(next(wanted), out=out))
        assert store.stats()["on_demand_fetches"] == 0


@pytest.mark.benchmark(group="lookup of 4096 rows, every one copied")
@pytest.mark.usefixtures("add_info")
def test_copies(benchmark: Any, pair: Pair, smoke: bool) -> None:
    """What admission costs where nothing that is copied is ever used again."""
    with filled(pair, 64, smoke, 0.1) as (store, table, rows):
        out = np.empty((ROWS, 64), dtype=np.float32)
        order = np.random.default_rng(0).permutation(rows)
        place = 0

        def call() -> None:
            nonlocal place
            table.lookup(order[place : place + ROWS], out=out[: len(order[place : place + ROWS])])
            place = (place + ROWS) % (rows - ROWS)

        benchmark(call)
        benchmark.extra_info["copy_ns"] = store.stats()["admission"]["copy_ns"]
