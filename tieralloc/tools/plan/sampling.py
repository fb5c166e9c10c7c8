"""Samples of a trace's accesses, for miss ratio curves.

Spatial sampling by pages (Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015):
all accesses to the rows of a page are in a sample, or none, so that also the pages that a call
reads are sampled. The slices of one rate are disjoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc.trace.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Sample:
    """Sampled accesses, by sample of the trace, with the rows and pages numbered consecutively."""

    stream: Stream
    pages: NDArray[np.uint32]  # (rows,)
    rate: float


def whole(stream: Stream, pages: NDArray[np.uint32]) -> Sample:
    """Return all accesses as a sample."""
    return Sample(stream, pages, 1.0)


def page_slice(
    stream: Stream, pages: NDArray[np.uint32], halvings: int, number: int, seed: int
) -> Sample:
    """Return a slice of the rate 1 / 2**`halvings`: `number` is below 2**`halvings`."""
    of_rows = _hash(pages, seed) >> np.uint64(64 - halvings) == number
    is_kept = of_rows[stream.accesses]
    rows, accesses = np.unique(stream.accesses[is_kept], return_inverse=True)
    _, kept_pages = np.unique(pages[rows], return_inverse=True)
    before = np.concatenate(([0], np.cumsum(is_kept)))
    ends = np.concatenate(([0], np.cumsum(stream.lengths, dtype=np.int64)))
    part = Stream(
        accesses.astype(np.uint64),
        np.diff(before[ends]).astype(np.uint32),
        np.searchsorted(rows, stream.table_starts).astype(np.uint64),
    )
    return Sample(part, kept_pages.astype(np.uint32), 0.5**halvings)


def _hash(values: NDArray[np.uint32], seed: int) -> NDArray[np.uint64]:
    """Return 64 bits per value, by SplitMix64."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.uint64) + np.uint64(seed % (1 << 32) + 1) * np.uint64(
            0x9E3779B97F4A7C15
        )
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return hashed
