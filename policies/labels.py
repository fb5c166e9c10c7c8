"""Labels: what Belady's optimal replacement (OPT) keeps, and what it still misses.

OPT is that of `tieralloc.tools.simulate`: every missed row takes a place, none is served past the
fast tier. Labels of a part of a trace know nothing of what follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc import _bindings

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class OptLabels:
    """What OPT does at each access of a stream.

    Parameters
    ----------
    missed : (n,) bool
        Whether the access is a miss.
    kept : (n,) bool
        Whether the accessed row stays until its next use: the caching label. False where the
        stream has no further use of it.
    """

    missed: NDArray[np.bool_]
    kept: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MissWindows:
    """The sets of rows that OPT misses soon after each chunk: what is worth prefetching there.

    Parameters
    ----------
    rows : (m,) uint64
        The sets of all chunks, one after another, each in the order of the first misses.
    offsets : (chunks + 1,) int64
        The set of chunk ``c`` is ``rows[offsets[c] : offsets[c + 1]]``.
    """

    rows: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    def of(self, chunk: int) -> NDArray[np.uint64]:
        """Return the set that follows a chunk."""
        return self.rows[self.offsets[chunk] : self.offsets[chunk + 1]]


def opt_labels(accesses: NDArray[np.uint64], rows: int, capacity: int) -> OptLabels:
    """Label each access with what OPT does.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows, 0 to ``rows - 1``, as `tieralloc.trace.Trace.accesses` numbers them.
    rows : int
        How many there are.
    capacity : int
        Rows of the fast tier.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    ValueError
        For a capacity of 0.
    """
    return OptLabels(*_bindings.opt_labels(accesses, rows, capacity))


def next_uses(accesses: NDArray[np.uint64], rows: int) -> NDArray[np.uint32]:
    """Find the position of the next access to the same row, ``n`` where none follows.

    Parameters
    ----------
    accesses, rows
        As for `opt_labels`.

    Returns
    -------
    (n,) uint32
    """
    return _bindings.next_uses(accesses, rows)


def miss_windows(
    accesses: NDArray[np.uint64], missed: NDArray[np.bool_], chunk: int, window: int
) -> MissWindows:
    """Collect the rows that are missed within the `window` accesses after each chunk.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows.
    missed : (n,) bool
        Whether each access is a miss, as in `OptLabels`.
    chunk : int
        Accesses of a chunk; chunk ``c`` ends before access ``(c + 1) * chunk``. A rest shorter
        than a chunk has no window of its own.
    window : int
        Accesses of a window, which the end of the stream may cut short.

    Returns
    -------
    MissWindows
        Of ``n // chunk`` chunks. Each row once in a window, however often it is missed there.

    Raises
    ------
    ValueError
        For a chunk or window below 1, or labels of another length.
    """
    if chunk < 1 or window < 1:
        raise ValueError(f"chunk is {chunk} and window {window}, expected at least 1 each")
    if len(accesses) != len(missed):
        raise ValueError(f"labels are of {len(missed)} accesses, expected {len(accesses)}")
    misses = np.flatnonzero(missed)
    begins = np.arange(1, len(accesses) // chunk + 1) * chunk
    first = np.searchsorted(misses, begins)
    lengths = np.searchsorted(misses, begins + window) - first
    owner = np.repeat(np.arange(len(begins)), lengths)
    starts = np.cumsum(lengths) - lengths
    rows = accesses[misses[np.arange(len(owner)) + (first - starts)[owner]]]
    once = _first_of_each(owner, rows)
    counts = np.bincount(owner[once], minlength=len(begins))
    return MissWindows(rows[once], np.concatenate([[0], np.cumsum(counts)]))


def _first_of_each(owner: NDArray[np.int64], rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each pair of owner and row occurs first, in ascending order."""
    order = np.lexsort((rows, owner))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(owner[order]) != 0) | (np.diff(rows[order]) != 0)
    return np.sort(order[new])
