from libcpp.memory cimport unique_ptr

from tieralloc._bindings.core.policy cimport MakeNetwork, c_Network


cdef class Network:
    cdef MakeNetwork _make
    cdef unique_ptr[c_Network] _network
