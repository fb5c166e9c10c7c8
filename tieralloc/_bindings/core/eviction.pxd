# eviction/: eviction policies by name.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport byte


cdef extern from "eviction/planner.hpp" namespace "tieralloc" nogil:
    cdef cppclass MutableBytes "std::span<std::byte>":
        byte* data()
        size_t size()

    cdef cppclass PlannerMemory:
        string key
        vector[MutableBytes] parts

    cdef cppclass Planner:
        size_t bytes()


cdef extern from "eviction/policy.hpp" namespace "tieralloc" nogil:
    cdef cppclass EvictionPolicy:
        Planner* planner()

    cdef cppclass EvictionConfig:
        uint32_t capacity
        uint32_t slots
        uint64_t seed

    vector[string] c_eviction_policy_names "tieralloc::eviction_policy_names"() except +
    unique_ptr[EvictionPolicy] make_eviction_policy(string name, EvictionConfig config) except +
    size_t c_eviction_policy_bytes "tieralloc::eviction_policy_bytes"(
        string name, const EvictionConfig& config) except +
