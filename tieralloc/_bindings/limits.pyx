# distutils: language = c++
"""Limits of the core that Python checks before a call: `base/limits.hpp` declares them once."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "base/limits.hpp" namespace "tieralloc" nogil:
    const uint64_t kMaxTableRows
    const uint32_t kMaxDim
    const unsigned kMaxQueueDepth
    const unsigned kMaxPrefetchThreads
    const size_t kMaxRingWords


MAX_TABLE_ROWS = kMaxTableRows
MAX_DIM = kMaxDim
MAX_QUEUE_DEPTH = kMaxQueueDepth
MAX_PREFETCH_THREADS = kMaxPrefetchThreads
MAX_RING_BYTES = kMaxRingWords * sizeof(uint64_t)
