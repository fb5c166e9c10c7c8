"""Measuring: batches served for a while, contenders in turn, and figures of what came out."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bench.peers.loads import Batch

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """What came of serving batches for a while."""

    rows: int
    seconds: float
    latencies: list[float]  # seconds of each batch

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, alternation by alternation, so that what slows both down cancels out."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


def alternate(
    rounds: int,
    contenders: Mapping[str, Callable[[int], T]],
    tick: Callable[[], Any] = lambda: None,
) -> dict[str, list[T]]:
    """Call every contender in turn with the number of the round, round after round."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, measure in contenders.items():
            results[name].append(measure(turn))
            tick()
    return results


def serve(call: Callable[[Batch], Any], batches: Sequence[Batch], seconds: float) -> Served:
    """Serve batches in order until they end or so many seconds are over; one at least."""
    latencies: list[float] = []
    rows = 0
    for batch in batches:
        began = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - began)
        rows += len(batch.indices)
        seconds -= latencies[-1]
        if seconds <= 0:
            break
    return Served(rows, sum(latencies), latencies)


def serve_from_threads(
    call: Callable[[Batch], Any], batches: Sequence[Batch], seconds: float, threads: int
) -> Served:
    """Serve batches again and again from several threads, each beginning with another one."""
    gate = threading.Barrier(threads + 1)
    stop = threading.Event()
    results: list[Served] = []
    failures: list[BaseException] = []

    def work(first: int) -> None:
        own = itertools.cycle([*batches[first:], *batches[:first]])
        latencies: list[float] = []
        rows = 0
        gate.wait()
        try:
            while not stop.is_set():
                batch = next(own)
                began = time.perf_counter()
                call(batch)
                latencies.append(time.perf_counter() - began)
                rows += len(batch.indices)
        except BaseException as error:
            failures.append(error)
        results.append(Served(rows, 0.0, latencies))

    workers = [
        threading.Thread(target=work, args=(i * len(batches) // threads,)) for i in range(threads)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    began = time.perf_counter()
    stop.wait(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    ended = time.perf_counter()
    if failures:
        raise failures[0]
    latencies = [one for result in results for one in result.latencies]
    return Served(sum(result.rows for result in results), ended - began, latencies)


def percentile(values: Sequence[float], share: float) -> float:
    """Value that so many percent are not above; the 99th of fewer than 100 is the largest."""
    return float(np.percentile(values, share, method="higher"))
