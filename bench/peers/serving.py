"""An adapter that serves a workload: in this process, or in a child within a memory cgroup."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.peers.adapter import Adapter
from bench.peers.workloads import Batch, Dataset, Workload
from bench.scenery.cgroups import MemoryCgroup
from bench.scenery.processes import Child

_WORKING_BYTES = 2 << 20
_PAGE_TABLE_SHARE = 512  # 8 bytes for each 4 KiB mapped


@dataclass(frozen=True)
class Served:
    """Rows served in `seconds`; the seconds of each batch where these were taken."""

    rows: int
    seconds: float
    latencies: list[float]

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def serve(call: Callable[[Batch], Any], batches: Sequence[Batch], seconds: float) -> Served:
    """Serve batches in order, at least one, until they or the seconds are used up."""
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
    """Serve batches repeatedly from several threads, each starting with another one."""
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


class Server:
    """An adapter that serves a workload in this process."""

    def __init__(self, adapter: Adapter, workload: Workload) -> None:
        self.adapter = adapter
        self.name = adapter.name
        self._workload = workload
        adapter.prepare()

    def open(self) -> None:
        """Load the adapter."""
        self.adapter.load()

    def results(self, batch: Batch) -> Any:
        """Serve one batch; return the sums of its bags, table-major: (T * B, dim)."""
        result = np.asarray(self.adapter.embedding_bag(batch))
        dataset = self.adapter.dataset
        if self.adapter.side_by_side:
            bags = dataset.bag_count(batch)
            result = result.reshape(bags, -1, dataset.dim).transpose(1, 0, 2)
        return result.reshape(-1, dataset.dim)

    def warm(self, seconds: float) -> None:
        """Serve the batches to warm up with, for so long at most, or fill the cache alike."""
        if not self.adapter.fill(self._workload.warm):
            serve(self.adapter.embedding_bag, self._workload.warm, seconds)

    def serve(self, turn: int, seconds: float) -> Served:
        """Serve the segment of a turn, for so long at most."""
        self.adapter.use_threads(1)
        return serve(self.adapter.embedding_bag, self._workload.segments[turn], seconds)

    def serve_repeatedly(
        self, turn: int, seconds: float, callers: int = 1, within: int = 1
    ) -> Served:
        """Serve a segment from several threads, or with several within each call."""
        self.adapter.use_threads(within)
        batches = self._workload.segments[turn]
        return serve_from_threads(self.adapter.embedding_bag, batches, seconds, callers)

    def misses(self) -> tuple[int, int] | None:
        return self.adapter.misses()

    def dram_bytes(self) -> int:
        return self.adapter.dram_bytes()

    def close(self) -> None:
        """Release everything but files."""
        self.adapter.close()


class CgroupServer:
    """A `Server` in a child process, with all of its memory limited, page cache included.

    The child makes files, receives its batches and serves one before it joins the cgroup, so that
    the limit applies to memory of `open` and later calls.
    """

    def __init__(self, kind: type[Adapter], dataset: Dataset, budget: int, work: Workload) -> None:
        self.name = kind.name
        with ExitStack() as stack:
            self._cgroup = MemoryCgroup(budget + working_bytes(dataset))
            stack.callback(self._cgroup.close)
            self._child = Child(kind.name, _prepared, (kind, dataset, budget, work))
            stack.callback(self._child.close)
            self._cgroup.add(self._child.pid)
            self._child.call("open")
            self._open = stack.pop_all()

    def __getattr__(self, method: str) -> Any:
        return partial(self._child.call, method)

    def dram_bytes(self) -> int:
        """Return the max bytes charged to the cgroup."""
        return self._cgroup.peak

    def close(self) -> None:
        self._open.close()


def working_bytes(dataset: Dataset) -> int:
    """Return the bytes that a process may use beyond its cache: buffers of a call, page tables."""
    return _WORKING_BYTES + dataset.rows * dataset.row_bytes // _PAGE_TABLE_SHARE


def _prepared(kind: type[Adapter], dataset: Dataset, budget: int, workload: Workload) -> Server:
    server = Server(kind(dataset, budget), workload)
    server.open()
    server.results(workload.warm[0])  # libraries and buffers are charged outside
    server.close()
    server.adapter.prepare()
    return server
