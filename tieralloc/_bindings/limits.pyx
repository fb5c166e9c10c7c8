# distutils: language = c++
"""Limits of the core that Python checks too; the headers declare each once."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "base/limits.hpp" namespace "tieralloc" nogil:
    const size_t kMaxTableNameBytes
    const uint64_t kMaxTableRows
    const uint32_t kMaxDim
    const unsigned kMaxQueueDepth
    const unsigned kMaxPrefetchThreads
    const size_t kMaxRingWords


cdef extern from "eviction/priority.hpp" nogil:
    const uint32_t kMaxEvictionSpeed "tieralloc::PriorityPolicy::kMaxEvictionSpeed"


MAX_TABLE_NAME_BYTES = kMaxTableNameBytes
MAX_TABLE_ROWS = kMaxTableRows
MAX_DIM = kMaxDim
MAX_QUEUE_DEPTH = kMaxQueueDepth
MAX_PREFETCH_THREADS = kMaxPrefetchThreads
MAX_EVICTION_SPEED = kMaxEvictionSpeed
MAX_RING_BYTES = kMaxRingWords * sizeof(uint64_t)
