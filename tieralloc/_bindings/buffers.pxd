from libc.stddef cimport size_t
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.store cimport Integers, c_Table


cdef class Buffer:
    cdef Py_buffer view
    cdef bint held

    cdef int borrow(self, object source, bint writable) except -1


cdef class IntegerBuffer(Buffer):
    cdef Integers integers

    cdef int take(self, object source, str what) except -1


cdef class OutputBuffer:
    cdef object array
    cdef Buffer lent
    cdef size_t stride
    cdef DType dtype

    cdef int take(self, object out, Py_ssize_t lines, Py_ssize_t columns, DType dtype,
                  vector[DType]& others) except -1
    cdef object as_lines(self, object out, Py_ssize_t lines, Py_ssize_t columns,
                         vector[DType]& others)


cdef Buffer rows_buffer(object values, const c_Table* table, Py_ssize_t expected, bint* floats)
cdef size_t bags_of(size_t offsets, size_t tables, bint include_last_offset) except? 0
cdef Buffer weights_buffer(object weights, size_t expected, DType dtype, str mode)
