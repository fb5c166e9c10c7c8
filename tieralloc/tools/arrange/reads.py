"""Device reads of requests: pages that an LRU fast tier reads."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tieralloc.trace.trace import starts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tieralloc.trace import Trace

__all__ = ["device_reads"]

_REPORT = 64  # requests per report


def device_reads(
    trace: Trace,
    pages: NDArray[np.uint32],
    capacity: int,
    first: int,
    batch_size: int = 32,
    progress: Callable[[int], object] = lambda done: None,
) -> tuple[int, int]:
    """Return the pages that requests read, and the number of requests.

    A request looks up `batch_size` samples. Its misses in an LRU tier of single rows are read
    together, each page once.

    Parameters
    ----------
    trace : Trace
    pages : (rows of all tables,) uint32
        The page of each row: `tieralloc.order.pages_of_rows`.
    capacity : int
        Rows of the fast tier.
    first : int
        The first access that is counted; earlier requests warm the tier.
    batch_size : int
    progress : callable, optional
        Called with the number of newly simulated accesses.
    """
    accesses = trace.accesses()
    page_of = pages[accesses].tolist()
    rows = accesses.tolist()
    bounds = starts_of(trace.lengths.sum(axis=0, dtype=np.int64)[: trace.num_samples])[::batch_size]
    bounds = np.append(bounds, len(rows)).tolist()
    resident: OrderedDict[int, None] = OrderedDict()
    reads = requests = 0
    for number, (begin, end) in enumerate(pairwise(bounds)):
        missed = set()
        for access in range(begin, end):
            row = rows[access]
            if row in resident:
                resident.move_to_end(row)
                continue
            missed.add(page_of[access])
            resident[row] = None
            if len(resident) > capacity:
                resident.popitem(last=False)
        if begin >= first and begin < end:
            reads += len(missed)
            requests += 1
        if number % _REPORT == 0:
            progress(end - begin)
    return reads, requests
