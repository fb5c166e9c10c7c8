# distutils: language = c++
"""A call on a store: its tables, types, and the arrays that it borrows."""

from tieralloc._bindings.arguments cimport bounds_of, mode_of
from tieralloc._bindings.buffers cimport IntegerBuffer, OutputBuffer, bags_of, weights_buffer
from tieralloc._bindings.core.base cimport DType, block_scales, byte, is_quantised, size_of
from tieralloc._bindings.core.kernels cimport Mode
from tieralloc._bindings.core.store cimport SegmentSpan


cdef class Request:
    """A call, with the arrays that it borrows."""

    def __cinit__(self):
        self.indices = IntegerBuffer()
        self.offsets = IntegerBuffer()
        self.place = OutputBuffer()

    cdef int set_dtype(self) except -1:
        """Set the types that hold the rows of all tables: their own if they share one."""
        cdef c_TableSegment segment
        cdef DType first = self.segments[0].table.layout.dtype
        cdef DType dtype
        cdef bint is_shared = True
        cdef bint may_narrow = True
        cdef bint may_be_bfloat16 = True
        for segment in self.segments:
            dtype = segment.table.layout.dtype
            is_shared = is_shared and dtype == first
            may_narrow = may_narrow and (is_quantised(dtype) or dtype == DType.float16)
            may_be_bfloat16 = may_be_bfloat16 and block_scales(dtype).block > 0
            if dtype != first and DType.float64 in (dtype, first):
                raise TypeError("tables: float64 and narrower types have no common result; "
                                "expected one kind in a call, got both")
        self.dtype = first if is_shared and not is_quantised(first) else DType.float32
        if size_of(self.dtype) == 2:
            self.others.push_back(DType.float32)
        elif may_narrow:
            self.others.push_back(DType.float16)
            if may_be_bfloat16:
                self.others.push_back(DType.bfloat16)
        return 0

    cdef void set_raw(self):
        """Have the bytes of rows as the result."""
        self.dtype = DType.bytes
        self.others.clear()

    cdef int take_output(self, out) except -1:
        cdef Py_ssize_t columns = 0
        cdef c_TableSegment segment
        for segment in self.segments:
            columns += segment.table.layout.columns(self.dtype)
        self.place.take(out, <Py_ssize_t>self.call.bags, columns, self.dtype, self.others)
        self.call.out = <byte*>self.place.lent.view.buf
        self.call.out_stride = self.place.stride
        self.call.out_dtype = self.place.dtype
        return 0

    cdef int set_tables(self, const vector[const c_Table*]& tables, positions,
                        paddings) except -1:
        cdef c_TableSegment segment
        for i, position in enumerate(positions):
            segment.table = table_at(tables, position)
            segment.padding = -1 if paddings is None else paddings[i]
            self.segments.push_back(segment)
        if self.segments.empty():
            raise ValueError("tables: expected at least one, got none")
        self.call.segments = SegmentSpan(self.segments.data(), self.segments.size())
        return 0


cdef const c_Table* table_at(const vector[const c_Table*]& tables,
                             Py_ssize_t position) except NULL:
    if not 0 <= position < <Py_ssize_t>tables.size():
        raise IndexError(f"position: expected a table below {tables.size()}, got {position}")
    return tables[position]


cdef Request make_request(const vector[const c_Table*]& tables, positions, paddings, indices,
                          offsets, bint include_last_offset, str mode, per_sample_weights,
                          str bounds, bint has_result=True):
    """Return a call; rows are copied where offsets are None."""
    cdef Request request = Request()
    cdef BagCall* call = &request.call
    request.set_tables(tables, positions, paddings)
    if has_result:
        request.set_dtype()
    request.indices.take(indices, "indices")
    call.indices = request.indices.integers
    if offsets is None:
        call.mode = Mode.copy
        call.bags = call.indices.size
    else:
        request.offsets.take(offsets, "offsets")
        call.offsets = request.offsets.integers
        call.bags = bags_of(call.offsets.size, request.segments.size(), include_last_offset)
        if has_result:
            call.mode = mode_of(mode)
            request.weights = weights_buffer(per_sample_weights, call.indices.size, request.dtype,
                                             mode)
        if request.weights is not None:
            call.weights = request.weights.view.buf
    call.bounds = bounds_of(bounds)
    return request
