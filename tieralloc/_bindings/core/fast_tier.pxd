# fast_tier/: slots of a fast tier.

from libc.stdint cimport uint32_t


cdef extern from "fast_tier/fast_tier.hpp" namespace "tieralloc" nogil:
    uint32_t spare_slots(uint32_t capacity)
