"""Learns an order of rows: rows of a table that samples look up together share a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._common.progress import Progress, silent, ticking
from tieralloc.order import Order, TableOrder
from tieralloc.tools.arrange import greedy, mtkahypar
from tieralloc.tools.arrange.hypergraph import Hypergraph, hypergraph_of
from tieralloc.trace.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

__all__ = ["arrange", "partitioners"]

#: Returns the page of each node of a hypergraph, for a number of rows per page and a random seed.
Partitioner = Callable[[Hypergraph, int, int], "NDArray[np.int64]"]


def partitioners() -> dict[str, Partitioner]:
    """Return the partitioners that this machine has, the best one first."""
    found: dict[str, Partitioner] = {}
    if mtkahypar.is_installed():
        found["mtkahypar"] = mtkahypar.partition
    found["greedy"] = greedy.partition
    return found


def arrange(
    trace: Trace,
    rows_per_page: int,
    until: float = 0.5,
    *,
    method: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Order:
    """Learn an order from the first lookups of a trace.

    Parameters
    ----------
    trace : Trace
    rows_per_page : int
        Rows of a page of the file.
    until : float
        Share of the lookups to learn from, in (0, 1].
    method : str, optional
        One of `partitioners`; by default the first.
    seed : int
        Random seed.
    progress : Progress

    Returns
    -------
    Order
        Of all tables; those of which no sample has two rows have no pages.

    Raises
    ------
    ValueError
        If the method is unknown or a parameter is out of range.
    """
    known = partitioners()
    if method is not None and method not in known:
        raise ValueError(f"method: expected one of {', '.join(known)}, got {method!r}")
    if rows_per_page < 1:
        raise ValueError(f"rows_per_page: expected at least 1, got {rows_per_page}")
    partition = known[method or next(iter(known))]
    stream = Stream.of(trace, until)
    tables = {}
    with progress("arranging", len(stream.accesses), "lookups") as report:
        for table, (name, rows) in enumerate(
            zip(trace.table_names, trace.num_embeddings.tolist(), strict=True)
        ):
            samples, looked_up = _lookups_of(stream, table)
            with ticking(report):
                arranged, lengths = _pages(samples, looked_up, rows_per_page, partition, seed)
            tables[name] = TableOrder(rows, rows_per_page, arranged, lengths)
            report(len(looked_up), name)
    return Order(tables, f"order of {trace.name}")


def _lookups_of(stream: Stream, table: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sample and the row of each lookup in a table."""
    first, end = stream.table_starts[table : table + 2].astype(np.int64)
    accesses = stream.accesses.astype(np.int64)
    here = (accesses >= first) & (accesses < end)
    samples = np.repeat(np.arange(len(stream.lengths)), stream.lengths)
    return samples[here], accesses[here] - first


def _pages(
    samples: NDArray[np.int64],
    rows: NDArray[np.int64],
    rows_per_page: int,
    partition: Partitioner,
    seed: int,
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Return the arranged rows, page after page, and the rows of each page."""
    graph = hypergraph_of(samples, rows, seed) if rows_per_page > 1 else None
    if graph is None:
        return np.empty(0, np.uint64), np.empty(0, np.uint32)
    pages = partition(graph, rows_per_page, seed)
    order = np.argsort(pages, kind="stable")
    lengths = np.bincount(pages)
    return graph.rows[order].astype(np.uint64), lengths[lengths > 0].astype(np.uint32)
