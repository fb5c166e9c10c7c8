"""Bounds of any lookup: NumPy's copies and gathers of random rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

DIM = 64
REPEATS = 8
GATHERED_ROWS = 1 << 16


@pytest.mark.benchmark(group="memory, NumPy")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["copy", "gather"])
def test_memory_bound(benchmark: Any, is_quick: bool, kind: str, threads: int) -> None:
    """`extra_info` has GB/s (a copied byte is read and written) or rows per second."""
    table = np.ones((1 << 12 if is_quick else 4_000_000, DIM), dtype=np.float32)
    source = table[: 1 << 20]
    rows = np.random.default_rng(7).integers(0, len(table), (threads, GATHERED_ROWS))
    size = len(source) if kind == "copy" else GATHERED_ROWS
    out = np.zeros((threads, size, DIM), dtype=np.float32)
    calls: dict[str, Callable[[int], Any]] = {
        "copy": lambda thread: np.copyto(out[thread], source),
        "gather": lambda thread: np.take(table, rows[thread], 0, out[thread], "clip"),
    }
    with ThreadPoolExecutor(threads) as pool:
        numbers = [thread for thread in range(threads) for _ in range(REPEATS)]
        benchmark(lambda: list(pool.map(calls[kind], numbers)))
    if benchmark.stats is not None:
        rows_per_second = len(numbers) * size / benchmark.stats.stats.median
        benchmark.extra_info["rows_per_second"] = round(rows_per_second)
        benchmark.extra_info["gb_per_second"] = round(rows_per_second * DIM * 8 / 1e9, 1)
