"""A peer at work on a load: here, or in a child process within a memory cgroup."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.peers.dataset import Dataset
from bench.peers.loads import Batch, Load
from bench.peers.measure import Served, serve, serve_from_threads
from bench.peers.peer import Peer, PeerFailedError, bag_count
from bench.scenery.cgroups import MemoryCgroup

_WORKING_BYTES = 2 << 20
_PAGE_TABLE_SHARE = 512  # 8 bytes for each 4 KiB mapped


class Runner:
    """A peer that serves a load in this process."""

    def __init__(self, peer: Peer, load: Load) -> None:
        self.peer = peer
        self.name = peer.name
        self._load = load

    def open(self) -> None:
        """Load the peer; what it takes from now on counts."""
        self.peer.load()

    def results(self, batch: Batch) -> Any:
        """Serve one batch; the sums of its bags, table-major: (T * B, dim)."""
        result = np.asarray(self.peer.embedding_bag(batch))
        if not self.peer.side_by_side:
            return result
        bags = bag_count(self.peer.dataset, batch)
        by_table = result.reshape(bags, -1, self.peer.dataset.dim).transpose(1, 0, 2)
        return by_table.reshape(-1, self.peer.dataset.dim)

    def warm(self, seconds: float) -> None:
        """Serve the batches to warm up with, for so long at most, or do what comes to the same."""
        if not self.peer.fill(self._load.warm):
            serve(self.peer.embedding_bag, self._load.warm, seconds)

    def serve(self, turn: int, seconds: float) -> Served:
        """Serve the segment of an alternation, for so long at most."""
        self.peer.use_threads(1)
        return serve(self.peer.embedding_bag, self._load.segments[turn], seconds)

    def serve_again_and_again(
        self, turn: int, seconds: float, callers: int = 1, within: int = 1
    ) -> Served:
        """Serve a segment from several threads, or with several within each call, for so long."""
        self.peer.use_threads(within)
        batches = self._load.segments[turn]
        return serve_from_threads(self.peer.embedding_bag, batches, seconds, callers)

    def misses(self) -> tuple[int, int] | None:
        """Rows asked for, and those not found in DRAM."""
        return self.peer.misses()

    def dram_bytes(self) -> int:
        """DRAM taken for rows, caches and bookkeeping."""
        return self.peer.dram_bytes()

    def close(self) -> None:
        """Let go of everything but files."""
        self.peer.close()


class CgroupRunner:
    """A peer that serves a load in a child process, whose page cache a cgroup bounds.

    The child makes files, gets its batches and serves once before it joins, so that the limit is
    there for what `open` and later calls take.
    """

    def __init__(self, kind: type[Peer], dataset: Dataset, budget: int, load: Load) -> None:
        self.name = kind.name
        self._cgroup = MemoryCgroup(budget + working_bytes(dataset))
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(
            target=_obey, args=(theirs, kind, dataset, budget, load), daemon=True
        )
        try:
            self._child.start()
            theirs.close()
            self._receive()  # prepared
            assert self._child.pid is not None
            self._cgroup.add(self._child.pid)
        except BaseException:
            self._end()
            raise

    def open(self) -> None:
        """Load the peer within the cgroup."""
        try:
            self._ask("open")
        except BaseException:
            self._end()
            raise

    def results(self, batch: Batch) -> Any:
        """As `Runner.results`."""
        return self._ask("results", batch)

    def warm(self, seconds: float) -> None:
        """As `Runner.warm`."""
        self._ask("warm", seconds)

    def serve(self, turn: int, seconds: float) -> Served:
        """As `Runner.serve`."""
        served: Served = self._ask("serve", turn, seconds)
        return served

    def misses(self) -> tuple[int, int] | None:
        """As `Runner.misses`."""
        found: tuple[int, int] | None = self._ask("misses")
        return found

    def dram_bytes(self) -> int:
        """Return the most that was on the cgroup's account: page cache and all else."""
        return self._cgroup.peak

    def close(self) -> None:
        """End the child, if it has not ended already."""
        with suppress(PeerFailedError):
            self._ask("close")
        self._end()

    def _ask(self, method: str, *arguments: Any) -> Any:
        with suppress(BrokenPipeError):  # the answer, or its absence, tells
            self._pipe.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            error, result = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._child.join()
            raise PeerFailedError(
                f"{self.name} ended with exit code {self._child.exitcode} in a memory cgroup of "
                f"{self._cgroup.limit >> 20} MiB"
            ) from None
        if error:
            raise PeerFailedError(f"{self.name} failed: {error}")
        return result

    def _end(self) -> None:
        self._pipe.close()
        if self._child.pid is not None:
            self._child.join(timeout=10)
            if self._child.is_alive():
                self._child.kill()
                self._child.join()
        self._cgroup.close()


def working_bytes(dataset: Dataset) -> int:
    """Bytes beyond its cache that a process is left: what a call leaves behind, page tables."""
    return _WORKING_BYTES + dataset.rows * dataset.row_bytes // _PAGE_TABLE_SHARE


def _obey(pipe: Connection, kind: type[Peer], dataset: Dataset, budget: int, load: Load) -> None:
    """Call a runner's methods as they are asked for, in the child."""
    try:
        runner = Runner(kind(dataset, budget), load)
        runner.peer.prepare()
        # Once outside: libraries are loaded and buffers made before anything is counted.
        runner.open()
        runner.results(load.warm[0])
        runner.close()
        runner.peer.prepare()
        pipe.send((None, None))
        while True:
            method, arguments = pipe.recv()
            pipe.send((None, getattr(runner, method)(*arguments)))
            if method == "close":
                return
    except EOFError:
        return  # the parent is gone
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {error}", None))
