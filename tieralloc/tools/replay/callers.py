"""Callers of a store: threads that take calls from one queue and note when each was answered."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tieralloc.tools.replay.arrivals import wait_until
from tieralloc.tools.replay.errors import VerificationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._common.progress import Report
    from tieralloc.store import TieredStore
from tieralloc.tools.replay.source import SourceRows

_LEAD_NS = 10_000_000  # from the start of the callers to time zero of arrivals: all are waiting


class Call(NamedTuple):
    """One request to the store."""

    table: int | None  # None: the table-batched call on all tables
    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]


class Times(NamedTuple):
    """When each call was due and when it was answered, in ns since serving began, (n,) int64.

    In a closed loop a call is due when its caller makes it.
    """

    due: NDArray[np.int64]
    ended: NDArray[np.int64]

    @property
    def latencies(self) -> NDArray[np.int64]:
        """Nanoseconds from when each call was due to its answer."""
        return self.ended - self.due

    @property
    def seconds(self) -> float:
        """From the beginning to the last answer."""
        return float(self.ended.max(initial=0)) * 1e-9


def serve(
    store: TieredStore,
    calls: Iterable[Call],
    threads: int = 1,
    source: SourceRows | None = None,
    done: Report = lambda _: None,
    arrivals: NDArray[np.int64] | None = None,
) -> Times:
    """Make calls, each thread the next one as soon as it has the answer to its last one.

    With `arrivals` no call is made before it is due. A thread that is free takes the next call
    and waits for it, so that the calls are served first come, first served.

    Parameters
    ----------
    store : TieredStore
        With tables of float32 of one dim.
    calls : iterable of Call
        Taken in order, by whichever thread is free.
    threads : int
        Callers at a time.
    source : SourceRows, optional
        What to check each answer against, after its time is taken.
    done : callable
        Called with the number of rows served, by one thread at a time.
    arrivals : (n,) int64, optional
        When the calls are due, in ns from the beginning, ascending, one for each call.

    Returns
    -------
    Times
        In the order of the calls.

    Raises
    ------
    VerificationError
        For an answer that differs from `source`.
    OSError
        Where the slow tier cannot be read.
    """
    queue = _Queue(calls, done, arrivals)
    if threads == 1:
        noted = _serve_some(store, queue, source)
    else:
        with ThreadPoolExecutor(threads) as pool:
            try:
                parts = [pool.submit(_serve_some, store, queue, source) for _ in range(threads)]
                noted = np.concatenate([part.result() for part in parts])
            finally:
                queue.stop()
    in_order = noted[np.argsort(noted[:, 0])]
    return Times(in_order[:, 1] - queue.start, in_order[:, 2] - queue.start)


class _Queue:
    """Hands calls to threads, each call to one of them, and holds them back until they are due."""

    def __init__(
        self, calls: Iterable[Call], done: Report, arrivals: NDArray[np.int64] | None
    ) -> None:
        self._calls = enumerate(calls)
        self._done = done
        self._arrivals = None if arrivals is None else arrivals.tolist()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.start = perf_counter_ns() + (0 if arrivals is None else _LEAD_NS)

    def __iter__(self) -> Iterator[tuple[int, Call]]:
        served = 0
        while True:
            with self._lock:
                self._done(served)
                taken = None if self._stopped.is_set() else next(self._calls, None)
            if taken is None:
                return
            yield taken
            served = len(taken[1].indices)

    def wait_for(self, number: int) -> int:
        """Wait until a call is due, and return when it was."""
        if self._arrivals is None:
            return perf_counter_ns()
        due: int = self.start + self._arrivals[number]
        wait_until(due, self._stopped)
        return due

    def stop(self) -> None:
        self._stopped.set()


def _serve_some(store: TieredStore, queue: _Queue, source: SourceRows | None) -> NDArray[np.int64]:
    """Serve until the queue is empty; return (n, 3): number of the call, due, ended."""
    tables = list(store.tables.values())
    width = tables[0].embedding_dim
    outs: dict[tuple[int, int], NDArray[np.float32]] = {}
    noted = array("q")
    try:
        for number, call in queue:
            asked = tables if call.table is None else [tables[call.table]]
            shape = ((len(call.offsets) - 1) // len(asked), len(asked) * width)
            if shape not in outs:
                outs[shape] = np.full(shape, np.nan, dtype=np.float32)
            out = outs[shape]
            due = queue.wait_for(number)
            store.embedding_bag(call.indices, call.offsets, asked, out=out)
            noted.extend((number, due, perf_counter_ns()))
            if source is not None:
                _verify(source, call, out, [table.position for table in asked], number)
    except BaseException:
        queue.stop()
        raise
    return np.array(noted, dtype=np.int64).reshape(-1, 3)


def _verify(
    source: SourceRows, call: Call, out: NDArray[np.float32], tables: Sequence[int], number: int
) -> None:
    wrong = source.first_wrong(out, tables, call.indices, call.offsets)
    out.fill(np.nan)  # so that a vector left unwritten by the next call is found
    if wrong is None:
        return
    table, bag = wrong
    raise VerificationError(
        f"call number {number} served a wrong vector: bag {bag} of table number {table} is not "
        "the sum of its rows"
    )
