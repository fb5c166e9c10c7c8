"""Prefetches: from the call until the rows are resident."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tieralloc as ta
from bench.micro.known_table import Sizes, check_hit_ratio
from tieralloc.tools.replay.source import SourceRows

DIM = 64
MAX_SECONDS = 30


@pytest.fixture
def cold_table(directory: Path, sizes: Sizes) -> Iterator[ta.Table]:
    """Return a table with a slot for every row and no resident row."""
    path = directory / "prefetch.tier"
    rows = sizes.hot + sizes.cold
    with ta.TieredStore(path, fast_rows=rows) as store:
        table = store.create_table("bench", rows, DIM)
        table.load(SourceRows([rows], DIM).parts(0))
        yield table
    path.unlink()


@pytest.mark.benchmark(group="prefetch until resident")
@pytest.mark.parametrize("rows", [256, 4096])
def test_prefetch_until_resident(
    benchmark: Any, add_info: Callable[..., None], cold_table: ta.Table, is_quick: bool, rows: int
) -> None:
    store = cold_table.store
    order = np.random.default_rng(0).permutation(len(cold_table))
    requests = iter(order[: len(order) // rows * rows].reshape(-1, rows))
    served = []
    polls = 0

    def take() -> tuple[tuple[Any, int], dict[str, Any]]:
        served.append(next(requests))
        return (served[-1], store.stats().fast_tier.resident_rows + rows), {}

    def prefetch(wanted: Any, target: int) -> None:
        nonlocal polls
        assert cold_table.prefetch(wanted) == rows
        deadline = time.monotonic() + MAX_SECONDS
        # stats() takes milliseconds itself, so a result is late by at most one call.
        while store.stats().fast_tier.resident_rows < target:
            polls += 1
            assert time.monotonic() < deadline, "the rows did not become resident"

    rounds = 1 if is_quick else min(30, len(order) // rows)
    benchmark.pedantic(prefetch, setup=take, rounds=rounds)
    add_info(store.stats(), rows, polls_per_round=polls / len(served))

    store.reset_stats()
    cold_table.lookup(np.concatenate(served))
    check_hit_ratio(store.stats(), 1.0)
