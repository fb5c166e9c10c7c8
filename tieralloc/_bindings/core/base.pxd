# base/: element types, statistics, NUMA nodes, and spans over the caller's memory.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.errors cimport raise_core_error


cdef extern from "<cstddef>" namespace "std" nogil:
    cdef cppclass byte:
        pass


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass ByteSpan "std::span<std::uint8_t>":
        ByteSpan()
        ByteSpan(uint8_t* first, size_t count)

    cdef cppclass PositionSpan "std::span<std::uint32_t>":
        PositionSpan()
        PositionSpan(uint32_t* first, size_t count)

    cdef cppclass WordSpan "std::span<const std::uint32_t>":
        WordSpan()
        WordSpan(const uint32_t* first, size_t count)

    cdef cppclass FloatSpan "std::span<float>":
        FloatSpan()
        FloatSpan(float* first, size_t count)


cdef extern from "base/types.hpp" nogil:
    cdef cppclass RowSpan "std::span<const tieralloc::RowId>":
        RowSpan()
        RowSpan(const uint64_t* first, size_t count)


cdef extern from "base/dtype.hpp" namespace "tieralloc" nogil:
    cdef enum class DType "tieralloc::DType":
        float32
        float16
        bfloat16
        float64
        int8
        int4
        bytes
        e4m3_ue8m0_32
        e4m3_ue8m0_64
        e4m3_ue8m0_128
        e4m3_float32_32
        e4m3_float32_64
        e4m3_float32_128

    size_t size_of(DType dtype) noexcept
    cdef cppclass BlockScales:
        uint32_t block

    BlockScales block_scales(DType dtype) noexcept
    c_bool is_affine(DType dtype) noexcept
    c_bool is_quantised(DType dtype) noexcept


cdef extern from "base/statistics.hpp" namespace "tieralloc" nogil:
    cdef cppclass StatisticValue:
        pass

    cdef cppclass Statistic:
        string name
        StatisticValue value

    ctypedef vector[Statistic] Statistics


cdef extern from "<variant>" namespace "std" nogil:
    const T* get_if[T](const StatisticValue* value)


cdef extern from "base/numa/nodes.hpp" namespace "tieralloc" nogil:
    cdef cppclass NumaNodeInfo:
        int id
        vector[int] cpus
        uint64_t bytes
        uint64_t available
        c_bool allowed

    vector[NumaNodeInfo] c_numa_nodes "tieralloc::numa_nodes"() except +raise_core_error
    NumaNodeInfo c_usable_node "tieralloc::usable_node"(int node) except +raise_core_error


cdef extern from "base/numa/placement.hpp" namespace "tieralloc" nogil:
    cdef cppclass NodeRequest:
        int node
        c_bool prefer
        c_bool strict

    cdef cppclass Placement:
        pass

    StatisticValue statistic_of(const Placement& placement) except +


cdef extern from "slow_tier/memory/sampler.hpp" namespace "tieralloc" nogil:
    cdef cppclass MemoryQuestion:
        int node
        vector[int] cpus
        uint64_t bytes
        int repeats
        vector[uint32_t] row_bytes

    cdef cppclass MemorySamples:
        vector[double] load_ns
        vector[double] bytes_per_second
        vector[vector[double]] gather_ns
        Placement placement
        uint64_t huge_page_bytes

    cdef cppclass ChaseSamples:
        vector[double] plain_ns
        vector[double] extra_ns

    MemorySamples c_sample_memory "tieralloc::sample_memory"(
        const MemoryQuestion& question) except +raise_core_error
    ChaseSamples c_sample_emulation "tieralloc::sample_emulation"(
        double extra_ns, uint64_t bytes, int repeats) except +raise_core_error
