"""The C++ order of a table's rows."""

from libcpp.memory cimport shared_ptr

from tieralloc._bindings.core.slow_tier cimport c_RowOrder


cdef class RowOrder:
    cdef shared_ptr[const c_RowOrder] _order
