# What OPT does at each access, and when each row is used next: what learned policies are taught by.

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass ByteSpan "std::span<std::uint8_t>":
        ByteSpan()
        ByteSpan(uint8_t* first, size_t count)

    cdef cppclass PositionSpan "std::span<std::uint32_t>":
        PositionSpan()
        PositionSpan(uint32_t* first, size_t count)


cdef extern from "sim/belady.hpp" namespace "tieralloc" nogil:
    void c_opt_labels "tieralloc::opt_labels"(RowSpan accesses, uint64_t rows, uint32_t capacity,
                                              ByteSpan missed, ByteSpan kept) except +
    void c_next_uses "tieralloc::next_uses"(RowSpan accesses, uint64_t rows,
                                            PositionSpan positions) except +


@cython.boundscheck(False)
cdef ByteSpan _bytes_span(uint8_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return ByteSpan()
    return ByteSpan(&values[0], values.shape[0])


@cython.boundscheck(False)
cdef PositionSpan _position_span(uint32_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return PositionSpan()
    return PositionSpan(&values[0], values.shape[0])


def opt_labels(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity):
    """Tell what Belady's optimal replacement does at each access, every missed row being inserted.

    Parameters
    ----------
    accesses, rows, capacity
        As for `belady`, whose counts these labels add up to.

    Returns
    -------
    missed : (n,) bool
        Whether the access is a miss.
    kept : (n,) bool
        Whether the row stays until its next use; False where there is none.

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
        c_opt_labels(_span(accesses), rows, capacity, _bytes_span(missed_view),
                     _bytes_span(kept_view))
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
        Positions in `accesses`; ``n`` where none follows.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    """
    positions = np.empty(accesses.shape[0], dtype=np.uint32)
    cdef uint32_t[::1] view = positions
    with nogil:
        c_next_uses(_span(accesses), rows, _position_span(view))
    return positions
