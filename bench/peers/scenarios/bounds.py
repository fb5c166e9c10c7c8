"""The memory itself: copies of large arrays and gathers of random rows bound every lookup."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from bench.peers.experiment import Experiment
from bench.peers.results import Result
from bench.scenery.turns import Spread, alternate
from tieralloc._machine import core_count

_MAX_COPIED_BYTES = 256 << 20
_GATHERED_ROWS = 1 << 16
_REPEATS = 8


def run(experiment: Experiment) -> Iterator[Result]:
    settings = experiment.settings
    threads = sorted({1, min(2, core_count())})
    table = np.ones((settings.rows, settings.dim), dtype=np.float32)
    source = table.reshape(-1)[: _MAX_COPIED_BYTES // 4]
    random = np.random.default_rng(7)
    rows = [random.integers(0, len(table), _GATHERED_ROWS) for _ in threads]
    copies = [np.zeros_like(source) for _ in threads]
    gathered = [np.zeros((_GATHERED_ROWS, settings.dim), dtype=np.float32) for _ in threads]

    def copy(thread: int) -> None:
        np.copyto(copies[thread], source)

    def gather(thread: int) -> None:
        np.take(table, rows[thread], axis=0, out=gathered[thread], mode="clip")

    measures = {}
    for count in threads:
        # Each copied byte is read and written.
        copied = 2 * source.nbytes / 1e9
        measures[f"copies, {count} thread(s)", "GB/s"] = partial(_rate, copy, count, copied)
        gathers = partial(_rate, gather, count, _GATHERED_ROWS / 1e6)
        measures[f"random rows, {count} thread(s)", "M rows/s"] = gathers
    by_name = {name: measure for (name, _), measure in measures.items()}
    rates = alternate("bounds", settings.turns, by_name)
    for name, unit in measures:
        yield Result(name, Spread.of(rates[name]), unit=unit)


def _rate(call: Callable[[int], Any], threads: int, amount: float, _: int) -> float:
    """Return the amount per second of several threads, each call being of `amount`."""

    def work(thread: int) -> None:
        for _ in range(_REPEATS):
            call(thread)

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * _REPEATS * amount / (time.perf_counter() - began)
