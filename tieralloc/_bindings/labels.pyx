# distutils: language = c++
"""Belady's optimal replacement: its counts and labels, and the next use of each access."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.utility cimport move

import numpy as np

from tieralloc._bindings.arguments cimport word_vector
from tieralloc._bindings.core.sim cimport (
    Counts,
    Requests,
    c_belady,
    c_next_uses,
    c_opt_labels,
    statistics_of,
)
from tieralloc._bindings.spans cimport byte_span, position_span, row_span, word_span
from tieralloc._bindings.statistics cimport statistics_dict


def belady(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity, *,
           uint64_t count_from=0, size_t samples_per_call=0, sample_lengths=None, pages=None):
    """Count accesses under Belady's optimal replacement, which inserts every missed row.

    Parameters
    ----------
    accesses : (n,) contiguous buffer of uint64
        Row numbers, 0 to ``rows - 1``; the whole stream.
    rows, capacity, count_from, samples_per_call, pages
        As for `Simulator`; calls matter for device reads only.
    sample_lengths : (B,) array of uint32
        Accesses of each sample; needed with `samples_per_call`.

    Returns
    -------
    dict
        As the counts of `Simulator`; those of prefetches are 0.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    ValueError
        For a capacity of 0, lengths that do not add up, or pages as for `Simulator`.
    """
    cdef Counts counts
    cdef Requests requests
    cdef const uint32_t[::1] lengths = np.ascontiguousarray(
        [] if sample_lengths is None else sample_lengths, dtype=np.uint32)
    requests.samples = samples_per_call
    requests.sample_lengths = word_span(lengths)
    if pages is not None:
        requests.pages = word_vector(pages)
    with nogil:
        counts = c_belady(row_span(accesses), rows, capacity, count_from, move(requests))
    return statistics_dict(statistics_of(counts))


def opt_labels(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity):
    """Label each access under Belady's optimal replacement; arguments and errors as of `belady`.

    Returns whether the access is a miss, and whether its row stays until its next use, (n,) bool
    each.
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
    """Return the position of the next access to the same row, (n,) uint32; ``n`` if none follows.
    """
    positions = np.empty(accesses.shape[0], dtype=np.uint32)
    cdef uint32_t[::1] view = positions
    with nogil:
        c_next_uses(row_span(accesses), rows, position_span(view))
    return positions
