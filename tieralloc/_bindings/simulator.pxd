from libcpp.memory cimport unique_ptr

from tieralloc._bindings.core.eviction cimport EvictionPolicy
from tieralloc._bindings.core.sim cimport c_Simulator


cdef class Simulator:
    cdef unique_ptr[c_Simulator] _simulator
    cdef EvictionPolicy* _policy
    cdef bint _running
