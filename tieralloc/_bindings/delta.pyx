# distutils: language = c++
"""A delta of a store, while it is applied."""

from libc.stdint cimport uint64_t
from libcpp.vector cimport vector

from tieralloc._bindings.buffers cimport Buffer, IntegerBuffer, rows_buffer
from tieralloc._bindings.core.base cimport byte
from tieralloc._bindings.core.store cimport DeltaPart, DeltaPartSpan, c_Table
from tieralloc._bindings.store_base cimport StoreBase


cdef class Delta:
    """A delta from `begin` to its end, in one thread; other writers of the store wait."""

    def __init__(self, StoreBase store not None, positions, counts):
        """Begin a delta of parts: the position of a table and a number of rows, each."""
        cdef vector[DeltaPart] parts
        cdef DeltaPart part
        self._store = store
        for position, count in zip(positions, counts, strict=True):
            part.table = &store._table(position).layout
            part.rows = count
            parts.push_back(part)
        cdef DeltaPartSpan span = DeltaPartSpan(parts.data(), parts.size())
        with nogil:
            self._delta = store._store.get().begin_delta(span)

    def stage(self, Py_ssize_t position, rows, values):
        """Add the next part; values of None are zeros."""
        cdef const c_Table* table = self._store._table(position)
        cdef IntegerBuffer ints = IntegerBuffer()
        ints.take(rows, "rows")
        cdef bint floats = False
        cdef Buffer lent
        cdef const byte* first = NULL
        if values is not None:
            lent = rows_buffer(values, table, <Py_ssize_t>ints.integers.size, &floats)
            first = <const byte*>lent.view.buf
        with nogil:
            if floats:
                self._delta.get().stage_floats(table[0], ints.integers, <const float*>first)
            else:
                self._delta.get().stage(table[0], ints.integers, first)

    def commit(self, uint64_t version):
        """Apply the delta; return the nanoseconds that calls were held off."""
        cdef uint64_t paused
        with nogil:
            paused = self._delta.get().commit(version)
        return paused

    def end(self):
        """Let other writers go on. A delta that is not committed is dropped."""
        with nogil:
            self._delta.reset()
