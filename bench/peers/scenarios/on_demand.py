"""Rows of a cold file, compared with the random reads per second of its device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.results import Result
from bench.scenery import fio
from bench.scenery.turns import Spread, alternate, ratios
from tieralloc import _bindings
from tieralloc.tools.replay.baselines import drop_page_cache, map_rows

_BLOCK = 4096
_DEPTH = 64
_FAST_FRACTION = 0.01
_MEMMAP = "numpy.memmap, cold"


class ColdRows:
    """Rows in random order: no two of a call in one block, none repeated before all others."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        self._per_block = max(1, _BLOCK // row_bytes)
        self._blocks = np.random.default_rng(2).permutation(rows // self._per_block)
        self._passes = self._at = 0

    def take(self, count: int) -> NDArray[np.int64]:
        if self._at + count > len(self._blocks):
            self._at = 0
            self._passes += 1
        blocks = self._blocks[self._at : self._at + count]
        self._at += count
        return np.asarray(blocks * self._per_block + self._passes % self._per_block)


def run(experiment: Experiment) -> Iterator[Result]:
    settings = experiment.settings
    (workload,) = experiment.workloads("b")
    dataset = experiment.dataset(workload)
    budget = max(1 << 20, int(dataset.rows * dataset.row_bytes * _FAST_FRACTION))
    adapter = Tieralloc(dataset, workload, budget)
    adapter.prepare()
    path, seconds = adapter.path, settings.seconds
    cold = ColdRows(dataset.rows, dataset.row_bytes)
    few = settings.on_demand_rows[0]

    def lookups(rows: int, engine: str = "auto") -> Callable[[int], float]:
        """Measure rows per second of a newly opened store, whose lookups all miss."""

        def measure(_: int) -> float:
            slow = ta.File(path, mode="r", engine=engine, warm_restart_interval=None)
            with ta.TieredStore(slow=slow, fast_bytes=budget) as store:
                (table,) = store.tables.values()
                out = np.empty((rows, dataset.dim), dtype=np.float32)
                speed = _repeat(lambda: table.lookup(cold.take(rows), out=out), rows, seconds)
                stats = store.stats()
            if stats.hits:
                raise BaselineFailedError(f"{stats.hits} of {stats.lookups} rows hit, not 0")
            return speed

        return measure

    def memmap(_: int) -> float:
        drop_page_cache(path)
        mapped = map_rows(path, dataset.dim)
        out = np.empty((few, dataset.dim), dtype=np.float32)
        return _repeat(
            lambda: np.take(mapped, cold.take(few), axis=0, out=out, mode="clip"), few, seconds
        )

    measures = {_per_call(rows): lookups(rows) for rows in (*settings.on_demand_rows, 1)}
    for engine, refusal in _bindings.fetch_engines().items():
        if refusal:
            experiment.refused[f"engine {engine}"] = refusal
        else:
            measures[f"engine {engine}"] = lookups(few, engine)
    measures[_MEMMAP] = memmap
    if refusal := fio.refusal():
        experiment.refused["fio"] = refusal
    else:
        for depth in (_DEPTH, 1):
            measures[_fio(depth)] = lambda _, depth=depth: fio.reads_per_second(
                path, depth, seconds
            )
    speeds = alternate("on-demand", settings.turns, measures)
    figures = {f"{name}, rows/s": Spread.of(values).median for name, values in speeds.items()}

    def ratio(rows: int, baseline: str, **options: Any) -> Result:
        value = ratios(speeds[_per_call(rows)], speeds[baseline]) if baseline in speeds else None
        return Result(f"{_per_call(rows)} ÷ {baseline}", value, **options)

    for rows in settings.on_demand_rows:
        of_all: dict[str, Any] = {"figures": dict(figures)} if rows == few else {}
        yield ratio(rows, _fio(_DEPTH), min=0.9, **of_all)
    yield ratio(few, _MEMMAP, min=5.0)
    yield ratio(1, _fio(1))


def _repeat(call: Callable[[], Any], rows: int, seconds: float) -> float:
    """Return rows per second of a call that is repeated for the given time."""
    began = time.perf_counter()
    calls = 0
    while (passed := time.perf_counter() - began) < seconds or calls == 0:
        call()
        calls += 1
    return calls * rows / passed


def _fio(depth: int) -> str:
    return f"fio at depth {depth}"


def _per_call(rows: int) -> str:
    return f"{rows} row{'s' if rows > 1 else ''} per call"
