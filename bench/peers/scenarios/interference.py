"""Background work at full speed: its effect on lookups that need none of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers import fio
from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.results import Result
from bench.peers.workloads import make_batches
from bench.scenery.turns import Spread, alternate, percentile, ratios
from tieralloc._arrivals import poisson_arrivals, wait_until

_PINNED_FRACTION = 0.05
#: Few slots for all other rows, so that they are evicted and written back all the time.
_SPARE_FRACTION = 0.01
_UTILISATION = 0.3  # of what the foreground thread can serve when idle
_MIN_SECONDS = 0.2
_MAX_QUIET_SECONDS = 30.0
_BATCHES = 64
_FIO_DEPTH = 64
_PREFETCHED, _UPDATED, _PAUSE_SECONDS = 2048, 256, 0.005


def run(experiment: Experiment) -> Iterator[Result]:
    (workload,) = experiment.workloads("b")
    # A file of its own, because the background writes to it.
    adapter = Tieralloc(experiment.dataset(workload), workload)
    adapter.file_name = "interference.tier"
    adapter.prepare()
    try:
        yield from _measure(experiment, adapter)
    finally:
        adapter.path.unlink()


def _measure(experiment: Experiment, adapter: Tieralloc) -> Iterator[Result]:
    settings, rows = experiment.settings, adapter.dataset.rows
    order = np.random.default_rng(3).permutation(rows)
    hot, cold = np.split(order, [int(rows * _PINNED_FRACTION)])
    spare = int(rows * _SPARE_FRACTION)
    seconds = max(_MIN_SECONDS, 2 * settings.seconds)
    with ta.TieredStore.open(adapter.path, fast_rows=len(hot) + spare) as store:
        (table,) = store.tables.values()
        table.pin(hot)
        table.lookup(cold[-spare:])  # no slot stays free
        call = _foreground(table, hot, settings.foreground_bags, settings.bag_size)
        rate = _UTILISATION / float(np.median([_seconds(call, i) for i in range(4 * _BATCHES)]))
        background = Background(table, cold, settings.seconds)

        def idle(turn: int) -> list[float]:
            return _open_loop(store, call, rate, seconds, turn)

        def busy(turn: int) -> list[float]:
            with background.running():
                return _open_loop(store, call, rate, seconds, turn)

        def elsewhere(turn: int) -> list[float]:
            reads = background.rates()["prefetches_issued/s"]
            with fio.reading(adapter.path, _FIO_DEPTH, reads, seconds + _MAX_QUIET_SECONDS):
                time.sleep(settings.seconds)
                return _open_loop(store, call, rate, seconds, turn)

        busy(settings.turns)  # fio's first turn needs its rates
        measures: dict[str, Callable[[int], list[float]]] = {"idle": idle, "busy": busy}
        if (reason := fio.refusal()) is None:
            measures["fio"] = elsewhere
        else:
            experiment.refused["fio"] = reason
        latencies = alternate("interference", settings.turns, measures)
    tails = {name: [percentile(one, 99) for one in of] for name, of in latencies.items()}
    calls = sum(map(len, latencies["idle"]))
    figures: dict[str, float | str] = {"calls/s": rate, "calls of each": float(calls)}
    for name, turns in latencies.items():
        for percent in (50, 99):
            values = [percentile(one, percent) for one in turns]
            figures[f"p{percent} {name}, µs"] = Spread.of(values).median * 1e6
    yield Result(
        "p99, busy ÷ idle",
        ratios(tails["busy"], tails["idle"]),
        max=1.2,
        figures={**figures, **background.rates()},
    )
    if "fio" in tails:
        what = "p99, fio reading as much in another process ÷ idle"
        yield Result(what, ratios(tails["fio"], tails["idle"]))


def _foreground(
    table: ta.Table, hot: NDArray[np.int64], bags: int, bag_size: int
) -> Callable[[int], None]:
    """Return a call of pinned rows, by its number."""
    random = np.random.default_rng(4)
    batches = make_batches(lambda count: random.choice(hot, count), _BATCHES, bags, bag_size)
    out = np.empty((bags, table.embedding_dim), dtype=np.float32)

    def call(number: int) -> None:
        batch = batches[number % _BATCHES]
        table.embedding_bag(batch.indices, batch.offsets, include_last_offset=True, out=out)

    return call


def _seconds(call: Callable[[int], None], number: int) -> float:
    began = time.perf_counter()
    call(number)
    return time.perf_counter() - began


def _open_loop(
    store: ta.TieredStore, call: Callable[[int], None], rate: float, seconds: float, seed: int
) -> list[float]:
    """Return latencies of calls with Poisson arrivals, each from its arrival to its end."""
    arrivals = poisson_arrivals(int(rate * seconds) + 1, rate, seed).tolist()
    never = threading.Event()
    missed = store.stats()["on_demand_fetches"]
    latencies = []
    start = time.perf_counter_ns()
    for number, arrival in enumerate(arrivals):
        wait_until(start + arrival, never)
        call(number)
        latencies.append((time.perf_counter_ns() - start - arrival) * 1e-9)
    if missed := store.stats()["on_demand_fetches"] - missed:
        raise BaselineFailedError(f"{missed} foreground rows were not resident, expected all")
    return latencies


class Background:
    """Keeps the prefetch queue full, and updates rows that are evicted and written back."""

    def __init__(self, table: ta.Table, cold: NDArray[np.int64], run_in_seconds: float) -> None:
        self._table = table
        self._cold = cold
        self._run_in_seconds = run_in_seconds
        self._at = 0
        self._seconds = 0.0
        self._work = dict.fromkeys(("prefetches_issued", "write_backs", "evictions"), 0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work at full speed within the context."""
        stop = threading.Event()
        feeder = threading.Thread(target=self._feed, args=(stop,))
        feeder.start()
        try:
            time.sleep(self._run_in_seconds)  # until the queue is full and evicted rows are dirty
            before, began = self._table.store.stats(), time.perf_counter()
            yield
            after = self._table.store.stats()
            self._seconds += time.perf_counter() - began
            for name in self._work:
                self._work[name] += after[name] - before[name]
        finally:
            stop.set()
            feeder.join()
        self._wait_until_quiet()

    def rates(self) -> dict[str, Any]:
        """Return its work per second: was that full speed?"""
        return {f"{name}/s": count / self._seconds for name, count in self._work.items()}

    def _feed(self, stop: threading.Event) -> None:
        values = np.ones((_UPDATED, self._table.embedding_dim), dtype=np.float32)
        while not stop.is_set():
            self._table.prefetch(self._take(_PREFETCHED))
            self._table.update(self._take(_UPDATED), values)
            time.sleep(_PAUSE_SECONDS)

    def _take(self, count: int) -> NDArray[np.int64]:
        if self._at + count > len(self._cold):
            self._at = 0
        self._at += count
        return self._cold[self._at - count : self._at]

    def _wait_until_quiet(self) -> None:
        """Wait for queued work, so that the store is idle for the next measurement."""
        store = self._table.store
        store.flush()
        deadline = time.monotonic() + _MAX_QUIET_SECONDS
        issued = -1
        while (now := store.stats()["prefetches_issued"]) != issued:
            if time.monotonic() > deadline:
                break
            issued = now
            time.sleep(0.1)
        store.flush()
