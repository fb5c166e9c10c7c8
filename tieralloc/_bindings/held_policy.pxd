from libcpp.memory cimport unique_ptr

from tieralloc._bindings.core.eviction cimport PlannerMemory
from tieralloc._bindings.core.store cimport c_HeldPolicy
from tieralloc._bindings.store_base cimport StoreBase


cdef class HeldPolicy:
    cdef StoreBase _store
    cdef unique_ptr[c_HeldPolicy] _held

    cdef const PlannerMemory* _memory(self, size_t tier) except NULL
    cdef _each_part(self, size_t tier, int access, act)
