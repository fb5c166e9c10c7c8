# kernels/: pooling modes and instruction sets.

cdef extern from "kernels/kernels.hpp" namespace "tieralloc" nogil:
    cdef enum class Mode "tieralloc::Mode":
        copy
        sum
        mean
        max

    const char* c_kernel_isa "tieralloc::kernel_isa"()
