"""Scales of time: the intervals that are predicted, the horizons that may count, eviction ages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieralloc._bindings import Simulator
from tieralloc.trace.stream import count_distinct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Upper ends of the intervals that the prefetch model predicts, from the end of the sample on: the
#: first is the rest of the sample. The core counts uses up to `PREFETCH_HORIZON`.
PREFETCH_INTERVALS = [0, *(1 << power for power in range(4, 14))]

_POWERS = [1 << power for power in range(5, 31)]


def intervals_for(accesses: int) -> list[int]:
    """Return the upper ends of the intervals to learn from so many accesses: up to half of them."""
    return _up_to_half(_POWERS, accesses)


def horizons_for(accesses: int) -> list[int]:
    """Return the horizons of a use that may count, up to half of the accesses learned from."""
    return _up_to_half([32, 128, 512, *_POWERS[5:]], accesses)


def _up_to_half(ascending: list[int], accesses: int) -> list[int]:
    return [end for end in ascending if end <= max(accesses // 2, ascending[0])]


def eviction_ages(
    accesses: NDArray[np.uint64], rows: int, count_from: int
) -> list[tuple[int, float]]:
    """Measure after how many accesses LRU evicts, at capacities of 1, 2, 4 … up to all rows.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows below `rows`.
    rows : int
        Rows of all tables.
    count_from : int
        First access that counts.

    Returns
    -------
    list of (int, float)
        Capacities and ages: capacity ÷ miss ratio.
    """
    distinct = count_distinct(accesses, rows)
    ages = []
    capacity = 1
    while True:
        lru = Simulator("lru", capacity, rows, count_from=count_from)
        lru.run(accesses)
        counts = lru.counts
        ages.append((capacity, capacity * counts["lookups"] / max(counts["on_demand_fetches"], 1)))
        if capacity >= distinct:
            return ages
        capacity *= 2
