# Memoryviews as C++ spans: the memory stays the caller's.

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from tieralloc._bindings.core.base cimport ByteSpan, PositionSpan, RowSpan, WordSpan


cdef inline RowSpan row_span(const uint64_t[::1] rows) noexcept nogil:
    if rows.shape[0] == 0:
        return RowSpan()
    with cython.boundscheck(False):
        return RowSpan(&rows[0], rows.shape[0])


cdef inline WordSpan word_span(const uint32_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return WordSpan()
    with cython.boundscheck(False):
        return WordSpan(&values[0], values.shape[0])


cdef inline ByteSpan byte_span(uint8_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return ByteSpan()
    with cython.boundscheck(False):
        return ByteSpan(&values[0], values.shape[0])


cdef inline PositionSpan position_span(uint32_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return PositionSpan()
    with cython.boundscheck(False):
        return PositionSpan(&values[0], values.shape[0])
