"""What the memory gives: the bounds that stop a lookup, whoever makes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from bench.peers.bench import Bench
from bench.peers.findings import Finding
from bench.peers.measure import Spread, alternate
from tieralloc.tools.machine import core_count

NUMBER = 0
TITLE = "Bounds: what this machine's memory gives to NumPy's loops"
MOST_COPIED_BYTES = 256 << 20
GATHERED_ROWS = 1 << 16
REPEATS = 8


def run(bench: Bench) -> list[Finding]:
    """Copying large arrays, and gathering random rows of a table, by one thread and by two."""
    settings = bench.settings
    threads = sorted({1, min(2, core_count())})
    table = np.ones((settings.rows, settings.dim), dtype=np.float32)
    source = table.reshape(-1)[: MOST_COPIED_BYTES // 4]
    random = np.random.default_rng(7)
    places = [random.integers(0, len(table), GATHERED_ROWS) for _ in threads]
    copies = [np.zeros_like(source) for _ in threads]
    gathered = [np.zeros((GATHERED_ROWS, settings.dim), dtype=np.float32) for _ in threads]

    def copy(thread: int) -> None:
        np.copyto(copies[thread], source)

    def gather(thread: int) -> None:
        np.take(table, places[thread], axis=0, out=gathered[thread], mode="clip")

    contenders = {}
    for count in threads:
        suffix = f"{count} thread{'s' if count > 1 else ''}"
        # A copied byte is read and written.
        contenders[f"copying, {suffix}"] = partial(_per_second, copy, count, 2 * source.nbytes)
        contenders[f"random rows, {suffix}"] = partial(_per_second, gather, count, GATHERED_ROWS)
    with bench.steps("bounds", settings.rounds * len(contenders)) as tick:
        results = alternate(settings.rounds, contenders, tick)
    findings = []
    for name, per_second in results.items():
        scale, unit = (1e9, "GB/s") if name.startswith("copying") else (1e6, "M rows/s")
        findings.append(Finding(name, Spread.of([one / scale for one in per_second]), unit=unit))
    return findings


def _per_second(call: Callable[[int], Any], threads: int, amount: int, _: int) -> float:
    """How much of `amount` a call several threads get done a second."""

    def work(thread: int) -> None:
        for _ in range(REPEATS):
            call(thread)

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * REPEATS * amount / (time.perf_counter() - began)
