"""The scenarios: durable updates, updates during serving, and opening after a kill."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers import settings as peers
from bench.peers.adapter import BaselineFailedError
from bench.peers.serving import serve_open_loop
from bench.peers.workloads import Batch, Dataset, Workload, make_workload
from bench.scenery.processes import Child
from bench.scenery.turns import Spread, alternate, percentile, ratios
from bench.updates.stores import KINDS, MemmapToUpdate, TierallocToUpdate, opened_to_update
from tieralloc.tools.replay.arrivals import wait_until

Record = dict[str, Any]

_CHECKED_ROWS = 1000
_READ_BYTES = 4 << 20


@dataclass(frozen=True)
class Settings:
    """Sizes and rates."""

    rows: int = 1_000_000
    dim: int = 64
    fast_fraction: float = 0.1
    turns: int = 5
    updated_rows: int = 100_000
    call_rows: int = 1000
    seconds: float = 3.0  # of a window of serving
    requests_per_second: int = 500
    bags: int = 10  # of a request
    bag_size: int = 20
    updates_per_second: int = 50_000
    paced_rows: int = 500  # of a call
    sync_seconds: float = 1.0  # between two syncs
    killed_rows: tuple[int, ...] = (10_000, 100_000)


FULL = Settings()
QUICK = replace(
    FULL,
    rows=20_000,
    turns=2,
    updated_rows=2000,
    call_rows=500,
    seconds=0.2,
    sync_seconds=0.05,
    killed_rows=(1000,),
)


class Setting:
    """Rows on the measured disk, and Zipf requests for each turn."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        requests = int(settings.requests_per_second * settings.seconds) + 1
        sizes = replace(
            peers.FULL,
            rows=settings.rows,
            dim=settings.dim,
            bags=settings.bags,
            bag_size=settings.bag_size,
            turns=settings.turns,
            warm_batches=requests,
            segment_batches=requests,
        )
        self.workload: Workload = make_workload("a", sizes, directory)
        self.dataset = Dataset(directory, self.workload.table_rows, settings.dim)
        self.dataset.write()
        self.budget = int(settings.rows * settings.fast_fraction) * self.dataset.row_bytes

    def draw(self, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return scattered rows, each once, and new values, whose sums are exact."""
        random = np.random.default_rng(seed)
        rows = random.permutation(self.dataset.rows)[:count]
        return rows, random.integers(0, 256, (count, self.settings.dim)).astype(np.float32)

    def open(self, kind: Any) -> Any:
        return opened_to_update(kind, self.dataset, self.workload, self.budget)


def durable(setting: Setting) -> Iterator[Record]:
    """Yield the rows/s of scattered updates until they are durable."""
    settings = setting.settings
    each = f"calls of {settings.call_rows:,}"
    cases = {
        "one call, one sync": (settings.updated_rows, False),
        f"{each}, one sync": (settings.call_rows, False),
        f"{each}, each with a sync": (settings.call_rows, True),
    }
    kinds = _possible_kinds()
    for case, (call_rows, syncs_each) in cases.items():
        measures = {
            kind.name: partial(_durable_rows_per_second, setting, kind, call_rows, syncs_each)
            for kind in kinds
        }
        speeds = alternate(f"durable, {case}", settings.turns, measures)
        for name, own in speeds.items():
            times = ratios(own, speeds[MemmapToUpdate.name])
            yield {
                "case": case,
                "store": name,
                "rows_per_second": Spread.of(own).median,
                "times_memmap": times.median,
                "times_memmap_low": times.low,
                "times_memmap_high": times.high,
            }


def _durable_rows_per_second(
    setting: Setting, kind: Any, call_rows: int, syncs_each: bool, turn: int
) -> float:
    """Update in a newly opened store without cached pages; check the rows after reopening it."""
    rows, values = setting.draw(setting.settings.updated_rows, turn)
    with setting.open(kind) as adapter:
        began = time.perf_counter()
        for first in range(0, len(rows), call_rows):
            part = slice(first, first + call_rows)
            adapter.update(rows[part], values[part])
            if syncs_each:
                adapter.sync()
        adapter.sync()
        seconds = time.perf_counter() - began
    checked = rows[-_CHECKED_ROWS:]
    with setting.open(kind) as adapter:
        if not np.array_equal(_values(adapter, checked), values[-_CHECKED_ROWS:]):
            raise BaselineFailedError(f"{kind.name}: updates are lost")
    return len(rows) / seconds


def _values(adapter: Any, rows: NDArray[np.int64]) -> Any:
    """Return rows by bags of one row."""
    return adapter.results(Batch(rows, np.arange(len(rows) + 1)))


class _Window(NamedTuple):
    """Latencies of lookups, the rate of requests, and that of updates."""

    latencies: list[float]
    requests_per_second: float
    updates_per_second: float


def beside_serving(setting: Setting) -> Iterator[Record]:
    """Yield the latencies of lookups in quiet windows, and beside paced updates."""
    settings = setting.settings
    with ExitStack() as stack:
        adapters = [stack.enter_context(setting.open(kind)) for kind in _possible_kinds()]
        for adapter in adapters:
            adapter.warm(10 * settings.seconds)
        measures: dict[tuple[str, str], Callable[[int], _Window]] = {}
        for adapter in adapters:
            measures[adapter.name, "quiet"] = partial(_window, setting, adapter, 0)
            busy = partial(_window, setting, adapter, settings.updates_per_second)
            measures[adapter.name, "updates"] = busy
        names = {f"{name}, {load}": (name, load) for name, load in measures}
        windows = alternate(
            "beside serving", settings.turns, {text: measures[key] for text, key in names.items()}
        )
    for adapter in adapters:
        quiet, busy = (windows[f"{adapter.name}, {load}"] for load in ("quiet", "updates"))
        record: Record = {"store": adapter.name}
        for load, own in (("quiet", quiet), ("updates", busy)):
            for percent in (50, 99):
                record[f"p{percent}_{load}_us"] = 1e6 * _median_percentile(own, percent)
        tails = [[percentile(one.latencies, 99) for one in own] for own in (busy, quiet)]
        yield record | {
            "p99_ratio": ratios(*tails).median,
            "requests_per_second": Spread.of([one.requests_per_second for one in busy]).median,
            "updates_per_second": Spread.of([one.updates_per_second for one in busy]).median,
        }


def _median_percentile(windows: Sequence[_Window], percent: float) -> float:
    return Spread.of([percentile(one.latencies, percent) for one in windows]).median


def _window(setting: Setting, adapter: Any, updates_per_second: int, turn: int) -> _Window:
    """Serve requests with Poisson arrivals, while another thread updates at a rate."""
    settings = setting.settings
    batches = setting.workload.segments[turn]
    updates = setting.draw(min(updates_per_second, setting.dataset.rows), turn)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        rate = pool.submit(_update, settings, adapter, *updates, updates_per_second, stop)
        began = time.perf_counter()
        try:
            latencies = serve_open_loop(
                lambda number: adapter.embedding_bag(batches[number]),
                settings.requests_per_second,
                settings.seconds,
                seed=turn,
                max_seconds=2 * settings.seconds,
            )
            seconds = time.perf_counter() - began
        finally:
            stop.set()
        return _Window(latencies, len(latencies) / seconds, rate.result())


def _update(
    settings: Settings,
    adapter: Any,
    rows: NDArray[np.int64],
    values: NDArray[np.float32],
    rows_per_second: int,
    stop: threading.Event,
) -> float:
    """Update until `stop` is set, in calls at fixed times; return the rate reached."""
    if not rows_per_second:
        return 0.0
    gap = round(settings.paced_rows / rows_per_second * 1e9)
    calls = 0
    start = synced = time.perf_counter_ns()
    while not stop.is_set():
        positions = np.arange(settings.paced_rows) + calls * settings.paced_rows
        positions %= len(rows)
        adapter.update(rows[positions], values[positions])
        calls += 1
        if time.perf_counter_ns() - synced > settings.sync_seconds * 1e9:
            adapter.sync()
            synced = time.perf_counter_ns()
        wait_until(start + calls * gap, stop)
    seconds = (time.perf_counter_ns() - start) * 1e-9
    adapter.sync()
    return calls * settings.paced_rows / seconds


def reopen(setting: Setting) -> Iterator[Record]:
    """Yield the seconds until a store is open, closed before or killed after updates."""
    settings = setting.settings
    adapter = TierallocToUpdate(setting.dataset, setting.workload, setting.budget)
    adapter.prepare()
    path = adapter.path
    for count in settings.killed_rows:
        samples = []
        for turn in range(settings.turns):
            rows, values = setting.draw(count, turn)
            closed, _ = _open_seconds(path, setting.budget, rows)
            writer = Child("writer", _Writer, (path, setting.budget))
            try:
                writer.call("update", rows, values)
            finally:
                os.kill(writer.pid, signal.SIGKILL)
                writer.close()
            killed, found = _open_seconds(path, setting.budget, rows)
            rate = sequential_bytes_per_second(path)
            kept = np.mean((found == values).all(axis=1))
            samples.append((closed, killed, kept, rate / 1e6, values.nbytes / rate))
        names = (
            "seconds_closed",
            "seconds_killed",
            "updates_kept",
            "sequential_mb_per_second",
            "seconds_to_read_the_rows",
        )
        medians = (float(np.median(column)) for column in zip(*samples, strict=True))
        yield {"updated_rows": count, **dict(zip(names, medians, strict=True))}


class _Writer:
    """A store in a process that is killed."""

    def __init__(self, path: Path, budget: int) -> None:
        self._store = _open(path, budget)

    def update(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        self._store.table("table0").update(rows, values)

    def close(self) -> None:
        self._store.close()


def _open(path: Path, budget: int) -> ta.TieredStore:
    file = ta.File(path, mode="r+", warm_restart_interval=None)
    return ta.TieredStore(slow=file, fast_bytes=budget)


def _open_seconds(path: Path, budget: int, rows: NDArray[np.int64]) -> tuple[float, Any]:
    """Return the seconds until the store is open, and the values of rows."""
    began = time.perf_counter()
    with _open(path, budget) as store:
        seconds = time.perf_counter() - began
        return seconds, store.table("table0").lookup(rows)


def sequential_bytes_per_second(path: Path) -> float:
    """Read a file once, in order, past the page cache."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, _READ_BYTES) as buffer:
            read = 0
            began = time.perf_counter()
            while count := os.preadv(descriptor, [buffer], read):
                read += count
            return read / (time.perf_counter() - began)
    finally:
        os.close(descriptor)


def _possible_kinds() -> list[Any]:
    return [kind for kind in KINDS if kind.refusal() is None]


#: By the names of --only: what a table shows, and its function.
SCENARIOS: dict[str, tuple[str, Callable[[Setting], Iterator[Record]]]] = {
    "durable": (
        "Scattered rows updated until they are durable; each store newly opened, nothing cached",
        durable,
    ),
    "serving": (
        "Lookups with Poisson arrivals, quiet and beside paced updates that are synced each second",
        beside_serving,
    ),
    "reopen": (
        "tieralloc opened after a close, and after a kill that follows updates without a flush",
        reopen,
    ),
}
