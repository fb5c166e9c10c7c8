"""Horizons: within how many accesses a row is used again, and which of them count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._core import PREFETCH_HORIZON, Simulator

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Horizons of the prefetch model, of which `PREFETCH_HORIZON` counts; the others teach it.
AHEAD_HORIZONS = (16, 32, 64, 128, 256, PREFETCH_HORIZON, 1024, 2048, 8192)

_CENTRE = 1 / 6  # of the age at which LRU evicts
_SPREAD = 1.2  # horizons


def horizons_for(accesses: int) -> list[int]:
    """Return the horizons that can be learned from so many accesses: up to half of them."""
    known = [32, 128, 512, *(1 << power for power in range(10, 31))]
    return [horizon for horizon in known if horizon <= max(accesses // 2, known[0])]


def horizon_weights(horizons: Sequence[int], eviction_age: float) -> NDArray[np.float32]:
    """Say what a use within each horizon is worth.

    Parameters
    ----------
    horizons : sequence of int
        Accesses, ascending.
    eviction_age : float
        Accesses that a row of the fast tier outlives under LRU.

    Returns
    -------
    (horizons,) float32
        They add up to 1. A use that is far within that age is a hit whoever leaves, one far beyond
        it is none: those about a sixth of it are decided here.
    """
    position = np.interp(
        np.log(eviction_age * _CENTRE), np.log(horizons), np.arange(len(horizons), dtype=float)
    )
    weights = np.exp(-0.5 * ((np.arange(len(horizons)) - position) / _SPREAD) ** 2)
    shares: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return shares


def eviction_ages(
    accesses: NDArray[np.uint64], rows: int, count_from: int
) -> list[tuple[int, float]]:
    """Measure after how many accesses LRU evicts, for capacities from one row to as many as count.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows below `rows`.
    rows : int
        How many there are.
    count_from : int
        The access that counts first.

    Returns
    -------
    list of (int, float)
        Capacities, each double the one before, and ages: capacity ÷ miss ratio.
    """
    distinct = len(np.unique(accesses))
    found = []
    capacity = 1
    while True:
        lru = Simulator("lru", capacity, rows, count_from=count_from)
        lru.run(accesses)
        counts = lru.counts
        found.append((capacity, capacity * counts["lookups"] / max(counts["on_demand_fetches"], 1)))
        if capacity >= distinct:
            return found
        capacity *= 2


def eviction_age(ages: Sequence[tuple[int, float]], capacity: int) -> float:
    """Interpolate what `eviction_ages` measured."""
    capacities, found = np.log(np.array(ages, dtype=float)).T
    return float(np.exp(np.interp(np.log(capacity), capacities, found)))
