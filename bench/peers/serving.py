"""Batches served for a given time, by one thread or several."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.peers.workloads import Batch
from tieralloc.tools.replay.arrivals import poisson_arrivals, wait_until


@dataclass(frozen=True)
class Served:
    """Rows served in `seconds`, and the latency of each batch if measured."""

    rows: int
    seconds: float
    latencies: list[float]

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def serve(call: Callable[[Batch], Any], batches: Sequence[Batch], seconds: float) -> Served:
    """Serve batches in order, at least one, until the last batch or until `seconds` have passed."""
    latencies: list[float] = []
    rows = 0
    for batch in batches:
        began = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - began)
        rows += len(batch.indices)
        if sum(latencies) >= seconds:
            break
    return Served(rows, sum(latencies), latencies)


def serve_from_threads(
    call: Callable[[Batch], Any], batches: Sequence[Batch], seconds: float, threads: int
) -> Served:
    """Serve batches repeatedly from several threads, each with another first batch."""
    gate = threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(thread: int) -> int:
        first = thread * len(batches) // threads
        rows = 0
        gate.wait()
        for batch in itertools.cycle([*batches[first:], *batches[:first]]):
            if stop.is_set():
                break
            call(batch)
            rows += len(batch.indices)
        return rows

    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work, thread) for thread in range(threads)]
        gate.wait()
        began = time.perf_counter()
        time.sleep(seconds)
        stop.set()
        rows = sum(worker.result() for worker in workers)
        return Served(rows, time.perf_counter() - began, [])


def serve_open_loop(
    call: Callable[[int], Any],
    rate: float,
    seconds: float,
    seed: int,
    max_seconds: float = math.inf,
) -> list[float]:
    """Return latencies of numbered calls with Poisson arrivals, each from its arrival to its end.

    An overloaded store is served for `max_seconds`; calls without an answer by then are left out.
    """
    arrivals = poisson_arrivals(int(rate * seconds) + 1, rate, seed).tolist()
    never = threading.Event()
    latencies: list[float] = []
    start = time.perf_counter_ns()
    for number, arrival in enumerate(arrivals):
        wait_until(start + arrival, never)
        call(number)
        ended = time.perf_counter_ns() - start
        latencies.append((ended - arrival) * 1e-9)
        if ended * 1e-9 > max_seconds:
            break
    return latencies
