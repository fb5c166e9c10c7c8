"""Callers of a store that each make the next call as soon as they have the answer to the last."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._progress import Report
    from tieralloc._source import SourceRows
    from tieralloc.store import TieredStore


class VerificationError(RuntimeError):
    """A vector served was not what its rows add up to."""


class Call(NamedTuple):
    """One request to the store."""

    table: int | None  # None: the table-batched call on all tables
    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]


def serve(
    store: TieredStore,
    calls: Iterable[Call],
    threads: int = 1,
    source: SourceRows | None = None,
    done: Report = lambda _: None,
) -> NDArray[np.int64]:
    """Make calls, each thread the next one as soon as it has the answer to its last one.

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

    Returns
    -------
    (n,) int64
        Nanoseconds that each call took its caller, in no order if there are several threads.

    Raises
    ------
    VerificationError
        For an answer that differs from `source`.
    OSError
        Where the slow tier cannot be read.
    """
    feed = _Feed(calls, done)
    if threads == 1:
        return _serve_some(store, feed, source)
    with ThreadPoolExecutor(threads) as pool:
        try:
            parts = [pool.submit(_serve_some, store, feed, source) for _ in range(threads)]
            return np.concatenate([part.result() for part in parts])
        finally:
            feed.stop()


class _Feed:
    """Hands calls to threads, each call to one of them."""

    def __init__(self, calls: Iterable[Call], done: Report) -> None:
        self._calls = iter(calls)
        self._done = done
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[Call]:
        served = 0
        while True:
            with self._lock:
                self._done(served)
                call = None if self._stopped else next(self._calls, None)
            if call is None:
                return
            yield call
            served = len(call.indices)

    def stop(self) -> None:
        self._stopped = True


def _serve_some(store: TieredStore, feed: _Feed, source: SourceRows | None) -> NDArray[np.int64]:
    tables = list(store.tables.values())
    width = tables[0].embedding_dim
    outs: dict[tuple[int, int], NDArray[np.float32]] = {}
    latencies = array("q")
    try:
        for call in feed:
            asked = tables if call.table is None else [tables[call.table]]
            shape = ((len(call.offsets) - 1) // len(asked), len(asked) * width)
            if shape not in outs:
                outs[shape] = np.full(shape, np.nan, dtype=np.float32)
            out = outs[shape]
            began = perf_counter_ns()
            store.embedding_bag(call.indices, call.offsets, asked, out=out)
            latencies.append(perf_counter_ns() - began)
            if source is not None:
                _verify(source, call, out, [table.position for table in asked], len(latencies))
    except BaseException:
        feed.stop()
        raise
    return np.array(latencies, dtype=np.int64)


def _verify(
    source: SourceRows, call: Call, out: NDArray[np.float32], tables: Sequence[int], number: int
) -> None:
    wrong = source.first_wrong(out, tables, call.indices, call.offsets)
    out.fill(np.nan)  # so that a vector left unwritten by the next call is found
    if wrong is None:
        return
    table, bag = wrong
    raise VerificationError(
        f"call {number} of a thread served a wrong vector: bag {bag} of table number {table} is "
        "not the sum of its rows"
    )
