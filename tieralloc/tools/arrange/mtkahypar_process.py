"""The process of `mtkahypar`: a hypergraph from stdin, the pages of its nodes to stdout."""

from __future__ import annotations

import os
import signal
import sys
from itertools import pairwise
from typing import IO, TYPE_CHECKING

import mtkahypar
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pages with room let the partitioner exchange rows; they cost disk space only.
_FILL = 14 / 15


def _read(source: IO[bytes]) -> NDArray[np.int64]:
    length = int.from_bytes(source.read(8), "little")
    return np.frombuffer(source.read(8 * length), dtype=np.int64)


def _serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Read a hypergraph, write the pages of its nodes."""
    settings, starts, pins, weights = (_read(source) for _ in range(4))
    nodes, rows_per_page, seed = settings.tolist()
    mtkahypar.set_seed(seed)
    threads = len(os.sched_getaffinity(0))
    initializer = mtkahypar.initialize(threads)
    context = initializer.context_from_preset(mtkahypar.PresetType.LARGE_K)
    context.logging = False
    pages = max(2, -(-nodes // max(1, int(rows_per_page * _FILL))))
    mean = -(-nodes // pages)
    context.set_partitioning_parameters(
        pages, max(0.0, (rows_per_page + 0.001) / mean - 1), mtkahypar.Objective.KM1
    )
    ends = starts.tolist()
    flat = pins.tolist()
    edges = [flat[begin:end] for begin, end in pairwise(ends)]
    graph = initializer.create_hypergraph(
        context, nodes, len(edges), edges, [1] * nodes, weights.tolist()
    )
    partition = graph.partition(context).get_partition()
    target.write(_fitting(np.array(partition, dtype=np.int64), rows_per_page).tobytes())


def _fitting(pages: NDArray[np.int64], rows_per_page: int) -> NDArray[np.int64]:
    """Move rows of pages that are too full to pages of their own."""
    order = np.argsort(pages, kind="stable")
    counts = np.bincount(pages)
    place = np.arange(len(pages)) - np.repeat(np.cumsum(counts) - counts, counts)
    moved = order[place >= rows_per_page]
    fitting: NDArray[np.int64] = pages.copy()
    fitting[moved] = len(counts) + np.arange(len(moved)) // rows_per_page
    return fitting


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _serve(sys.stdin.buffer, sys.stdout.buffer)
