"""Time scales of `recmg` in accesses: predicted intervals, horizons, eviction ages of LRU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieralloc._bindings import Simulator
from tieralloc.trace.stream import count_distinct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Upper ends of the intervals of the prefetch model, counted from the end of the sample. The first
#: interval is the remainder of the sample. The core counts uses up to `PREFETCH_HORIZON`.
PREFETCH_INTERVALS = [0, *(1 << power for power in range(4, 14))]

_POWERS = [1 << power for power in range(5, 31)]


def intervals_for(accesses: int) -> list[int]:
    """Return upper ends of the caching model's intervals: up to half of the training accesses."""
    return _up_to_half(_POWERS, accesses)


def horizons_for(accesses: int) -> list[int]:
    """Return the horizons within which the core counts uses: up to half of the accesses."""
    return _up_to_half([32, 128, 512, *_POWERS[5:]], accesses)


def _up_to_half(ascending: list[int], accesses: int) -> list[int]:
    return [end for end in ascending if end <= max(accesses // 2, ascending[0])]


def eviction_ages(
    accesses: NDArray[np.uint64], rows: int, count_from: int
) -> list[tuple[int, float]]:
    """Return capacities of 1, 2, 4 … up to all rows, and the eviction age of LRU at each.

    The eviction age is the number of accesses after which LRU evicts: capacity ÷ miss ratio of the
    accesses from number `count_from` on.
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
