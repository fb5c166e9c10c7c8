# distutils: language = c++
"""Belady's optimal replacement: its counts and labels, and the next use of each access."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

import numpy as np

from tieralloc._bindings.core.sim cimport Counts, c_belady, c_next_uses, c_opt_labels
from tieralloc._bindings.spans cimport byte_span, position_span, row_span
from tieralloc._bindings.statistics cimport counts_dict


def belady(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity, *,
           uint64_t count_from=0):
    """Count accesses under Belady's optimal replacement, which inserts every missed row.

    Parameters
    ----------
    accesses : (n,) contiguous buffer of uint64
        Row numbers, 0 to ``rows - 1``; the whole stream.
    rows, capacity, count_from : int
        As for `Simulator`.

    Returns
    -------
    dict
        As the counts of `Simulator`; those of prefetches are 0.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    ValueError
        For a capacity of 0.
    """
    cdef Counts counts
    with nogil:
        counts = c_belady(row_span(accesses), rows, capacity, count_from)
    return counts_dict(counts)


def opt_labels(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity):
    """Label each access under Belady's optimal replacement, which inserts every missed row.

    Parameters
    ----------
    accesses, rows, capacity
        As for `belady`; the labels add up to its counts.

    Returns
    -------
    missed : (n,) bool
        Whether the access is a miss.
    kept : (n,) bool
        Whether the row stays until its next use; False if it has none.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    ValueError
        For a capacity of 0.
    """
    missed = np.empty(accesses.shape[0], dtype=np.uint8)
    kept = np.empty(accesses.shape[0], dtype=np.uint8)
    cdef uint8_t[::1] missed_view = missed
    cdef uint8_t[::1] kept_view = kept
    with nogil:
        c_opt_labels(row_span(accesses), rows, capacity, byte_span(missed_view),
                     byte_span(kept_view))
    return missed.view(np.bool_), kept.view(np.bool_)


def next_uses(const uint64_t[::1] accesses not None, uint64_t rows):
    """Find the next access to the same row.

    Parameters
    ----------
    accesses, rows
        As for `belady`.

    Returns
    -------
    (n,) uint32
        Positions in `accesses`; ``n`` if none follows.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    """
    positions = np.empty(accesses.shape[0], dtype=np.uint32)
    cdef uint32_t[::1] view = positions
    with nogil:
        c_next_uses(row_span(accesses), rows, position_span(view))
    return positions
