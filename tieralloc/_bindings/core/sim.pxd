# sim/: the simulator and Belady's optimal replacement.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport ByteSpan, PositionSpan, RowSpan, Statistics, WordSpan
from tieralloc._bindings.core.eviction cimport EvictionConfig, EvictionPolicy


cdef extern from "sim/simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass Counts:
        pass

    Statistics statistics_of(const Counts& counts) except +

    const size_t kFastIndexBytes

    cdef cppclass Calls:
        size_t samples
        vector[uint64_t] table_starts


    cdef cppclass c_Simulator "tieralloc::Simulator":
        c_Simulator(unique_ptr[EvictionPolicy] policy, const EvictionConfig& config, uint64_t rows,
                    uint64_t count_from, uint64_t prefetch_lag) except +
        c_Simulator(unique_ptr[EvictionPolicy] policy, const EvictionConfig& config, uint64_t rows,
                    uint64_t count_from, uint64_t prefetch_lag, Calls calls,
                    vector[uint32_t] pages, size_t max_index_bytes) except +
        void run(RowSpan accesses) except +
        void run(RowSpan accesses, WordSpan sample_lengths) except +
        void prefetch(RowSpan rows) except +
        const Counts& counts()


cdef extern from "sim/belady.hpp" namespace "tieralloc" nogil:
    cdef cppclass Requests:
        size_t samples
        WordSpan sample_lengths
        vector[uint32_t] pages

    Counts c_belady "tieralloc::belady"(RowSpan accesses, uint64_t rows, uint32_t capacity,
                                        uint64_t count_from, Requests requests) except +
    void c_opt_labels "tieralloc::opt_labels"(RowSpan accesses, uint64_t rows, uint32_t capacity,
                                              ByteSpan missed, ByteSpan kept) except +
    void c_next_uses "tieralloc::next_uses"(RowSpan accesses, uint64_t rows,
                                            PositionSpan positions) except +
