from libcpp.memory cimport unique_ptr

from tieralloc._bindings.core.store cimport c_Delta
from tieralloc._bindings.store_base cimport StoreBase


cdef class Delta:
    cdef StoreBase _store
    cdef unique_ptr[c_Delta] _delta
