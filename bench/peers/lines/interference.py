"""Line 4: what background work at full speed does to lookups that need none of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers import fio
from bench.peers.bench import Bench
from bench.peers.findings import Finding, at_most
from bench.peers.kinds.tiered import Tiered
from bench.peers.loads import Batch, make_batches
from bench.peers.measure import Spread, alternate, percentile, ratios
from bench.peers.peer import PeerFailedError

NUMBER = 4
TITLE = "Interference: p99 of an all-hit lookup, open loop, background at full speed ÷ idle"
PINNED_FRACTION = 0.05
#: Few enough slots for all other rows that they are evicted, and written back, all the time.
SPARE_FRACTION = 0.01
UTILISATION = 0.3  # of the foreground thread's capacity when idle
MIN_SECONDS = 0.2
BATCHES = 64
SPIN_SECONDS = 200e-6
QUIET_SECONDS = 30.0
FIO_DEPTH = 64


def run(bench: Bench) -> list[Finding]:
    load = bench.load("b")
    assert load is not None
    # A file of its own: the background writes to it.
    peer = Tiered(bench.dataset(load), None, "interference.tier")
    peer.prepare()
    try:
        return _measure(bench, peer)
    finally:
        peer.path.unlink()


def _measure(bench: Bench, peer: Tiered) -> list[Finding]:
    settings = bench.settings
    rows = peer.dataset.rows
    order = np.random.default_rng(3).permutation(rows)
    hot, cold = np.split(order, [int(rows * PINNED_FRACTION)])
    seconds = max(MIN_SECONDS, 2 * settings.seconds)
    spare = int(rows * SPARE_FRACTION)
    with ta.TieredStore(peer.path, mode="r+", fast_rows=len(hot) + spare) as store:
        (table,) = store.tables.values()
        table.pin(hot)
        table.lookup(cold[-spare:])  # no slot is free
        foreground = Foreground(table, hot, settings.foreground_bags, settings.bag_size)
        background = Background(table, cold, settings.seconds)
        rate = UTILISATION / foreground.service_seconds()

        def idle(turn: int) -> list[float]:
            return foreground.open_loop(rate, seconds, seed=turn)

        def busy(turn: int) -> list[float]:
            with background:
                return foreground.open_loop(rate, seconds, seed=turn)

        def elsewhere(turn: int) -> list[float]:
            reads = float(background.rates()["prefetches_issued/s"])
            with fio.reading(peer.path, FIO_DEPTH, reads, seconds + QUIET_SECONDS):
                time.sleep(settings.seconds)
                return foreground.open_loop(rate, seconds, seed=turn)

        contenders = {"idle": idle, "busy": busy}
        refused = fio.refusal()
        if refused is None:
            contenders["fio"] = elsewhere
        else:
            bench.refuse("fio", refused)
        with bench.steps("interference", len(contenders) * settings.rounds) as tick:
            latencies = alternate(settings.rounds, contenders, tick)
    figures: dict[str, float | str] = {
        "calls/s": rate,
        "calls of each": float(sum(map(len, latencies["idle"]))),
    }
    for name, of_rounds in latencies.items():
        for share in (50, 99):
            values = [percentile(one, share) for one in of_rounds]
            figures[f"p{share} {name}, µs"] = Spread.of(values).median * 1e6
    tails = {name: [percentile(one, 99) for one in of] for name, of in latencies.items()}
    findings = [
        Finding(
            "p99, busy ÷ idle",
            ratios(tails["busy"], tails["idle"]),
            at_most(1.2),
            figures={**figures, **background.rates()},
        )
    ]
    if "fio" in tails:
        what = "p99, fio reading as much in a process of its own ÷ idle"
        findings.append(Finding(what, ratios(tails["fio"], tails["idle"])))
    return findings


class Foreground:
    """Lookups of pinned rows, each begun at its time whatever became of the one before."""

    def __init__(self, table: ta.Table, hot: NDArray[np.int64], bags: int, bag_size: int) -> None:
        self._table = table
        random = np.random.default_rng(4)
        self._batches = make_batches(
            lambda count: random.choice(hot, count), BATCHES, bags, bag_size
        )
        self._out = np.empty((bags, table.embedding_dim), dtype=np.float32)

    def _call(self, batch: Batch) -> None:
        self._table.embedding_bag(
            batch.indices, batch.offsets, include_last_offset=True, out=self._out
        )

    def service_seconds(self) -> float:
        """Median time of a call, closed loop."""
        times = []
        for batch in self._batches * 4:
            began = time.perf_counter()
            self._call(batch)
            times.append(time.perf_counter() - began)
        return float(np.median(times))

    def open_loop(self, rate: float, seconds: float, seed: int) -> list[float]:
        """Latencies of calls with Poisson arrivals, from when each was due to when it was done."""
        random = np.random.default_rng(seed)
        due_times = np.cumsum(random.exponential(1 / rate, int(rate * seconds) + 1)).tolist()
        before = self._table.store.stats()
        latencies = []
        began = time.perf_counter()
        for number, due in enumerate(due_times):
            wait = due - (time.perf_counter() - began)
            # A sleep ends some 60 µs late, so the last of the wait is spun.
            if wait > SPIN_SECONDS:
                time.sleep(wait - SPIN_SECONDS)
            while time.perf_counter() - began < due:
                pass
            self._call(self._batches[number % len(self._batches)])
            latencies.append(time.perf_counter() - began - due)
        after = self._table.store.stats()
        missed = after["on_demand_fetches"] - before["on_demand_fetches"]
        if missed:
            raise PeerFailedError(f"{missed} foreground rows were not resident, expected all")
        return latencies


class Background:
    """Keeps the prefetch queue full and writes to rows that have to go home, while entered."""

    PREFETCHED, UPDATED, PAUSE = 2048, 256, 0.005

    def __init__(self, table: ta.Table, cold: NDArray[np.int64], run_in_seconds: float) -> None:
        self._table = table
        self._cold = cold
        self._run_in_seconds = run_in_seconds
        self._at = 0
        self._seconds = 0.0
        self._work: dict[str, int] = {}

    def _take(self, count: int) -> NDArray[np.int64]:
        if self._at + count > len(self._cold):
            self._at = 0
        self._at += count
        return self._cold[self._at - count : self._at]

    def __enter__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()
        time.sleep(self._run_in_seconds)  # until the queue is full and rows leave dirty
        self._before = self._table.store.stats()
        self._began = time.perf_counter()

    def _feed(self) -> None:
        values = np.ones((self.UPDATED, self._table.embedding_dim), dtype=np.float32)
        while not self._stop.is_set():
            self._table.prefetch(self._take(self.PREFETCHED))
            self._table.update(self._take(self.UPDATED), values)
            time.sleep(self.PAUSE)

    def __exit__(self, *_: Any) -> None:
        self._seconds += time.perf_counter() - self._began
        after = self._table.store.stats()
        self._stop.set()
        self._thread.join()
        for name in ("prefetches_issued", "write_backs", "evictions"):
            done = after[name] - self._before[name]
            self._work[name] = self._work.get(name, 0) + done
        self._wait_until_quiet()

    def _wait_until_quiet(self) -> None:
        """Let what is queued be done, so that the next measurement is one of an idle store."""
        store = self._table.store
        store.flush()
        give_up = time.monotonic() + QUIET_SECONDS
        issued = -1
        while (now := store.stats()["prefetches_issued"]) != issued and time.monotonic() < give_up:
            issued = now
            time.sleep(0.1)
        store.flush()

    def rates(self) -> dict[str, float | str]:
        """What it did a second, to judge whether that was full speed."""
        return {f"{name}/s": count / self._seconds for name, count in self._work.items()}
