from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.slow_tier cimport CheckpointSource, CheckpointTable, JoinedTable


cdef class Checkpoint:
    cdef string _name
    cdef string _overlay
    cdef vector[CheckpointSource] _files
    cdef vector[CheckpointTable] _tables
    cdef vector[JoinedTable] _joined
