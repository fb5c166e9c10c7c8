"""Callers of a store: threads that take calls from one queue and record the time of each answer."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tieralloc._common.progress import Report, ignore
from tieralloc.tools.replay.arrivals import wait_until
from tieralloc.tools.replay.errors import VerificationError
from tieralloc.tools.replay.source import SourceRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.store import TieredStore
    from tieralloc.tools.replay.baselines import Baseline

_LEAD_NS = 10_000_000  # between the start of the threads and time zero, so that all are ready


class Call(NamedTuple):
    """One request to the store."""

    table: int | None  # None: the table-batched call on all tables
    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]


class Times(NamedTuple):
    """Due time, answer time and rows of each call, (n,) int64; times in ns since the start.

    In a closed loop a call is due when its caller starts it.
    """

    due: NDArray[np.int64]
    ended: NDArray[np.int64]
    rows_of_calls: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Rows of all calls."""
        return int(self.rows_of_calls.sum())

    @property
    def latencies(self) -> NDArray[np.int64]:
        """Nanoseconds between the due time and the answer of each call."""
        return self.ended - self.due

    @property
    def seconds(self) -> float:
        """Seconds between the start and the last answer."""
        return float(self.ended.max(initial=0)) * 1e-9


def serve(
    store: TieredStore | Baseline,
    calls: Iterable[Call],
    threads: int = 1,
    source: SourceRows | None = None,
    done: Report = ignore,
    arrivals: NDArray[np.int64] | None = None,
    settle: Callable[[Call], object] | None = None,
    at_end: Callable[[], object] | None = None,
) -> Times:
    """Serve calls: each thread takes the next call when its previous one is answered.

    With `arrivals` no call starts before it is due. A free thread takes the next call and waits
    until it is due, so that calls are served first come, first served.

    Parameters
    ----------
    store : TieredStore or Baseline
        Its tables are float32 and have one dim.
    calls : iterable of Call
        The calls, taken in order by the next free thread.
    threads : int
        Number of concurrent callers.
    source : SourceRows, optional
        Expected values; each answer is compared with them after its time is recorded.
    done : callable
        Called with the number of rows served, by one thread at a time.
    arrivals : (n,) int64, optional
        Due time of each call in ns since the start, ascending.
    settle : callable, optional
        Called after each call, outside its time.
    at_end : callable, optional
        Called after the last call, while the threads still hold their read buffers.

    Returns
    -------
    Times
        In the order of the calls.

    Raises
    ------
    VerificationError
        If an answer differs from `source`.
    OSError
        If the slow tier cannot be read.
    """
    queue = _Queue(calls, done, arrivals)
    if threads == 1:
        timings = _serve_queue(store, queue, source, settle)
        if at_end is not None:
            at_end()
    else:
        with ThreadPoolExecutor(threads) as pool:
            try:
                caller = partial(_serve_queue, store, queue, source, settle)
                parts = [pool.submit(caller) for _ in range(threads)]
                timings = np.concatenate([part.result() for part in parts])
                if at_end is not None:
                    at_end()
            finally:
                queue.stop()
    in_order = timings[np.argsort(timings[:, 0])]
    return Times(in_order[:, 1] - queue.start, in_order[:, 2] - queue.start, in_order[:, 3])


class _Queue:
    """Thread-safe queue of numbered calls and their due times."""

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
                item = None if self._stopped.is_set() else next(self._calls, None)
            if item is None:
                return
            yield item
            served = len(item[1].indices)

    def wait_for(self, number: int) -> int:
        """Wait until a call is due, and return its due time."""
        if self._arrivals is None:
            return perf_counter_ns()
        due: int = self.start + self._arrivals[number]
        wait_until(due, self._stopped)
        return due

    def stop(self) -> None:
        self._stopped.set()


def _serve_queue(
    store: TieredStore | Baseline,
    queue: _Queue,
    source: SourceRows | None,
    settle: Callable[[Call], object] | None,
) -> NDArray[np.int64]:
    """Serve calls until the queue is empty; return (n, 4): number, due time, answer time, rows."""
    tables: list[Any] = list(store.tables.values())
    width = tables[0].embedding_dim
    outs: dict[tuple[int, int], NDArray[np.float32]] = {}
    timings = array("q")
    try:
        for number, call in queue:
            call_tables = tables if call.table is None else [tables[call.table]]
            shape = ((len(call.offsets) - 1) // len(call_tables), len(call_tables) * width)
            if shape not in outs:
                outs[shape] = np.full(shape, np.nan, dtype=np.float32)
            out = outs[shape]
            due = queue.wait_for(number)
            store.embedding_bag(call.indices, call.offsets, call_tables, out=out)
            timings.extend((number, due, perf_counter_ns(), len(call.indices)))
            if settle is not None:
                settle(call)
            if source is not None:
                _verify(source, call, out, [table.position for table in call_tables], number)
    except BaseException:
        queue.stop()
        raise
    return np.array(timings, dtype=np.int64).reshape(-1, 4)


def _verify(
    source: SourceRows, call: Call, out: NDArray[np.float32], tables: Sequence[int], number: int
) -> None:
    wrong = source.first_wrong(out, tables, call.indices, call.offsets)
    out.fill(np.nan)  # so that the next check detects a vector that the call did not write
    if wrong is None:
        return
    table, bag = wrong
    raise VerificationError(
        f"call {number}: wrong vector in bag {bag} of table {table}; expected the sum of its rows"
    )
