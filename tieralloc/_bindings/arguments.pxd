from libc.stdint cimport uint32_t, uint64_t
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.kernels cimport Mode
from tieralloc._bindings.core.slow_tier cimport Durability, FileMode, PromotionRule, Residency
from tieralloc._bindings.core.store cimport Accesses, BoundsCheck


cdef DType dtype_of(object name) except *
cdef object dtype_name(DType dtype)
cdef Mode mode_of(object name) except *
cdef BoundsCheck bounds_of(object name) except *
cdef Accesses accesses_of(object name) except *
cdef Durability durability_of(object name) except *
cdef FileMode file_mode_of(object name) except *
cdef PromotionRule promotion_of(object name) except *
cdef Residency residency_of(object choice) except *
cdef object residency_choice(Residency residency)

cdef vector[uint32_t] word_vector(object values) except *
cdef vector[uint64_t] row_vector(object values) except *
cdef vector[float] float_vector(object values) except *
cdef object row_array(const vector[uint64_t]& rows)
cdef object word_array(const vector[uint32_t]& words)
