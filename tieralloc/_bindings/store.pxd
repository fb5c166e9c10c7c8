from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.store cimport BagCall, c_Store, c_Table, c_TableSegment


cdef class Store:
    cdef unique_ptr[c_Store] _store
    cdef vector[const c_Table*] _tables  # addresses stay valid; the GIL guards the vector

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL
    cdef DType _segments(self, positions, paddings, vector[c_TableSegment]& segments) except *
    cdef _serve(self, BagCall& call, out, Py_ssize_t columns, DType dtype, str bounds)
