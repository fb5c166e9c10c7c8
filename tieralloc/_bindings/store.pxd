from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

from tieralloc._bindings.buffers cimport Buffer, IntegerBuffer, OutputBuffer
from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.store cimport BagCall, c_Store, c_Table, c_TableSegment


cdef class Request:
    cdef BagCall call
    cdef DType dtype  # of the result, unless `out` has another
    cdef DType other  # that `out` may have instead
    cdef vector[c_TableSegment] segments
    cdef IntegerBuffer indices
    cdef IntegerBuffer offsets
    cdef Buffer weights
    cdef OutputBuffer place
    cdef int set_dtype(self) except -1
    cdef int take_output(self, out) except -1

cdef class Store:
    cdef unique_ptr[c_Store] _store
    cdef vector[const c_Table*] _tables  # addresses stay valid; the GIL guards the vector

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL
    cdef int _segments(self, positions, paddings, vector[c_TableSegment]& segments) except -1
    cdef Request _request(self, positions, paddings, indices, offsets, bint include_last_offset,
                          str mode, per_sample_weights, str bounds)
    cdef _serve(self, Request request, out)
