"""Prefetch: from the call to when its rows are resident."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tieralloc as ta
from bench.micro.conftest import add_info
from bench.micro.known_table import SMOKE, Sizes, check_hit_ratio
from tieralloc.tools.replay.source import SourceRows

DIM = 64
GIVE_UP_SECONDS = 30


@pytest.fixture
def cold_table(directory: Path, sizes: Sizes) -> Iterator[ta.Table]:
    """A table with a slot for every row and none of them resident: each becomes so but once."""
    path = directory / "prefetch.tier"
    rows = sizes.hot + sizes.cold
    store = ta.TieredStore(path, fast_rows=rows)
    table = store.create_table("bench", rows, DIM)
    table.load(SourceRows([rows], DIM).parts(0))
    yield table
    store.close()
    path.unlink()


@pytest.mark.benchmark(group="prefetch until resident")
@pytest.mark.parametrize("rows", [256, 4096])
def test_prefetch_until_resident(
    benchmark: Any, directory: Path, cold_table: ta.Table, sizes: Sizes, rows: int
) -> None:
    store = cold_table.store
    order = np.random.default_rng(0).permutation(len(cold_table))
    requests = iter(order[: len(order) // rows * rows].reshape(-1, rows))
    served = []
    polls = 0

    def fresh() -> tuple[tuple[Any, int], dict[str, Any]]:
        served.append(next(requests))
        return (served[-1], store.stats().fast_tier.resident_rows + rows), {}

    def prefetch(wanted: Any, target: int) -> None:
        nonlocal polls
        assert cold_table.prefetch(wanted) == rows
        give_up = time.monotonic() + GIVE_UP_SECONDS
        # stats() takes milliseconds of its own, so a result is late by one of them at most.
        while store.stats().fast_tier.resident_rows < target:
            polls += 1
            assert time.monotonic() < give_up, "the rows did not become resident"

    rounds = 1 if sizes == SMOKE else min(30, len(order) // rows)
    benchmark.pedantic(prefetch, setup=fresh, rounds=rounds)
    add_info(benchmark, directory, store.stats(), rows)
    benchmark.extra_info["polls_per_round"] = polls / len(served)

    store.reset_stats()
    cold_table.lookup(np.concatenate(served))
    check_hit_ratio(store.stats(), 1.0)
