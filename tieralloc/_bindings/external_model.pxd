from libc.stdint cimport uint32_t, uint64_t
from libcpp.vector cimport vector

from tieralloc._bindings.planned_model cimport PlannedModel


cdef class ExternalModel(PlannedModel):
    cdef object _decide
    cdef uint32_t _chunk
    cdef uint32_t _eviction_speed
    cdef vector[uint64_t] _table_starts
    cdef size_t _nbytes
