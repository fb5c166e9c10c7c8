from libcpp.vector cimport vector

from tieralloc._bindings.buffers cimport Buffer, IntegerBuffer, OutputBuffer
from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.store cimport BagCall, c_Table, c_TableSegment


cdef class Request:
    cdef BagCall call
    cdef DType dtype  # of the result, unless `out` has another
    cdef vector[DType] others  # that `out` may have instead
    cdef vector[c_TableSegment] segments
    cdef IntegerBuffer indices
    cdef IntegerBuffer offsets
    cdef Buffer weights
    cdef OutputBuffer place
    cdef int set_tables(self, const vector[const c_Table*]& tables, positions,
                        paddings) except -1
    cdef int set_dtype(self) except -1
    cdef void set_raw(self)
    cdef int take_output(self, out) except -1


cdef const c_Table* table_at(const vector[const c_Table*]& tables,
                             Py_ssize_t position) except NULL

cdef Request make_request(const vector[const c_Table*]& tables, positions, paddings, indices,
                          offsets, bint include_last_offset, str mode, per_sample_weights,
                          str bounds, bint has_result=*)
