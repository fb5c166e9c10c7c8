"""Prefetch labels: the rows that Belady's optimal replacement (OPT) misses after each chunk.

`tieralloc._bindings.opt_labels` has the decision of OPT at each access.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class MissWindows:
    """The rows that OPT misses in the window after each chunk: the prefetch labels."""

    #: (m,): the rows of all chunks, concatenated, each chunk's in the order of the first misses.
    rows: NDArray[np.uint64]
    #: (chunks + 1,): the rows of chunk ``c`` are ``rows[offsets[c] : offsets[c + 1]]``.
    offsets: NDArray[np.int64]


def miss_windows(
    accesses: NDArray[np.uint64], missed: NDArray[np.bool_], chunk: int, window: int
) -> MissWindows:
    """Return the rows missed in the `window` accesses after each chunk, without duplicates.

    Chunk ``c`` ends before access ``(c + 1) * chunk``; a last chunk of fewer accesses has no
    window. The last windows end with the stream. ValueError if chunk or window is below 1, or the
    lengths of accesses, (n,), and missed, (n,) bool, differ.
    """
    for name, value in (("chunk", chunk), ("window", window)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if len(accesses) != len(missed):
        raise ValueError(f"missed: expected {len(accesses)} labels, got {len(missed)}")
    misses = np.flatnonzero(missed)
    begins = np.arange(1, len(accesses) // chunk + 1) * chunk
    first = np.searchsorted(misses, begins)
    lengths = np.searchsorted(misses, begins + window) - first
    chunks = np.repeat(np.arange(len(begins)), lengths)
    starts = np.cumsum(lengths) - lengths
    rows = accesses[misses[np.arange(len(chunks)) + (first - starts)[chunks]]]
    unique = _first_occurrences(chunks, rows)
    counts = np.bincount(chunks[unique], minlength=len(begins))
    return MissWindows(rows[unique], np.concatenate([[0], np.cumsum(counts)]))


def _first_occurrences(chunks: NDArray[np.int64], rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the positions at which each pair of chunk and row occurs first, ascending."""
    order = np.lexsort((rows, chunks))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(chunks[order]) != 0) | (np.diff(rows[order]) != 0)
    return np.sort(order[is_first])
