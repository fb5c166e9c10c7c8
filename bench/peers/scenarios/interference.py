"""Background work at full speed: its effect on lookups of resident rows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc
from bench.peers.results import Result
from bench.peers.serving import serve_open_loop
from bench.peers.workloads import make_batches
from bench.scenery.turns import Spread, alternate, percentile, ratios

_PINNED_FRACTION = 0.05
#: Few slots for all other rows, so that they are evicted and written back all the time.
_SPARE_FRACTION = 0.01
_UTILISATION = 0.3  # of the foreground thread's max rate without background work
_MIN_SECONDS = 0.2
_MAX_QUIET_SECONDS = 30.0
_BATCHES = 64
_PREFETCHED, _UPDATED, _PAUSE_SECONDS = 2048, 256, 0.005


def run(experiment: Experiment) -> Iterator[Result]:
    (workload,) = experiment.workloads("b")
    adapter = Tieralloc(experiment.dataset(workload), workload)
    adapter.file_name = "interference.tier"  # separate, because the background writes to it
    adapter.prepare()
    try:
        yield _measure(experiment, adapter)
    finally:
        adapter.path.unlink()


def _measure(experiment: Experiment, adapter: Tieralloc) -> Result:
    settings, rows = experiment.settings, adapter.dataset.rows
    order = np.random.default_rng(3).permutation(rows)
    hot, cold = np.split(order, [int(rows * _PINNED_FRACTION)])
    spare = int(rows * _SPARE_FRACTION)
    seconds = max(_MIN_SECONDS, 2 * settings.seconds)
    work: Counter[str] = Counter()
    with ta.TieredStore(adapter.path, mode="r+", fast_rows=len(hot) + spare) as store:
        (table,) = store.tables.values()
        table.pin(hot)
        table.lookup(cold[-spare:])  # fill all slots
        call = _foreground(table, hot, settings.foreground_bags, settings.bag_size)
        rate = _UTILISATION / float(np.median([_seconds(call, i) for i in range(4 * _BATCHES)]))

        def idle(turn: int) -> list[float]:
            return _open_loop(store, call, rate, seconds, turn)

        def busy(turn: int) -> list[float]:
            with _background(table, cold, settings.seconds, work):
                return idle(turn)

        measures = {"idle": idle, "busy": busy}
        latencies = alternate("interference", settings.turns, measures)
    figures = {"calls/s": rate, "calls of each": float(sum(map(len, latencies["idle"])))}
    for name, turns in latencies.items():
        for percent in (50, 99):
            values = [percentile(one, percent) for one in turns]
            figures[f"p{percent} {name}, µs"] = Spread.of(values).median * 1e6
    # The background's work per second, to check its speed.
    busy_seconds = work.pop("ns") * 1e-9
    figures |= {f"{name}/s": count / busy_seconds for name, count in work.items()}
    tails = {name: [percentile(one, 99) for one in turns] for name, turns in latencies.items()}
    return Result(
        "p99, busy ÷ idle", ratios(tails["busy"], tails["idle"]), max=1.2, figures=figures
    )


def _foreground(
    table: ta.Table, hot: NDArray[np.int64], bags: int, bag_size: int
) -> Callable[[int], None]:
    """Return the call of pinned rows with this number."""
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
    """Serve in an open loop; fail if a row was not resident."""
    before = store.stats().on_demand_fetches
    latencies = serve_open_loop(call, rate, seconds, seed)
    if missed := store.stats().on_demand_fetches - before:
        raise BaselineFailedError(f"{missed} foreground rows were not resident, expected all")
    return latencies


@contextmanager
def _background(
    table: ta.Table, cold: NDArray[np.int64], run_in_seconds: float, work: Counter[str]
) -> Iterator[None]:
    """Keep the prefetch queue full, and update rows that are evicted and written back."""
    stop = threading.Event()

    def feed() -> None:
        values = np.ones((_UPDATED, table.embedding_dim), dtype=np.float32)
        step = _PREFETCHED + _UPDATED
        at = 0
        while not stop.is_set():
            rows = cold.take(np.arange(at, at + step), mode="wrap")
            table.prefetch(rows[:_PREFETCHED])
            table.update(rows[_PREFETCHED:], values)
            at += step
            time.sleep(_PAUSE_SECONDS)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        time.sleep(run_in_seconds)  # until the queue is full and evicted rows are dirty
        before, began = table.store.stats(), time.perf_counter_ns()
        yield
        after = table.store.stats()
        work["ns"] += time.perf_counter_ns() - began
        work["prefetches_issued"] += after.prefetches_issued - before.prefetches_issued
        work["write_backs"] += after.updates.write_backs - before.updates.write_backs
        work["evictions"] += after.evictions - before.evictions
    finally:
        stop.set()
        feeder.join()
        _wait_until_quiet(table.store)


def _wait_until_quiet(store: ta.TieredStore) -> None:
    """Wait for queued work, so that the store is idle for the next measurement."""
    store.flush()
    deadline = time.monotonic() + _MAX_QUIET_SECONDS
    issued = -1
    while (now := store.stats().prefetches_issued) != issued and time.monotonic() < deadline:
        issued = now
        time.sleep(0.1)
    store.flush()
