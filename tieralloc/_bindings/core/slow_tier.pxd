# slow_tier/: pools of rows in a file or in memory, engines that read files, and promotion.

from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType, NodeRequest
from tieralloc._bindings.errors cimport raise_core_error


cdef extern from "slow_tier/slow_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass PageLayout "tieralloc::PageLayout":
        uint32_t rows_per_page
        c_bool has_footer
        uint64_t num_pages(uint64_t rows)

    uint32_t c_rows_per_page "tieralloc::rows_per_page"(uint64_t row_bytes)

    cdef enum class Residency "tieralloc::Residency":
        automatic
        always
        never

    cdef cppclass TableLayout:
        PageLayout pages
        string name
        uint64_t rows
        uint32_t dim
        DType dtype
        uint32_t stride

    cdef cppclass SlowPool:
        pass


cdef extern from "<chrono>" namespace "std::chrono" nogil:
    cdef cppclass milliseconds:
        milliseconds()
        milliseconds(long long)


cdef extern from "slow_tier/file/file_pool.hpp" namespace "tieralloc" nogil:
    cdef enum class Durability "tieralloc::Durability":
        none
        flush
        commit

    cdef cppclass FilePoolOptions:
        string engine
        c_bool direct
        c_bool reserve
        unsigned queue_depth
        Durability durability
        milliseconds sync_interval

    cdef enum class FileMode "tieralloc::FileMode":
        read
        update
        append
        write

    cdef cppclass FilePool(SlowPool):
        c_bool is_new() const

    unique_ptr[FilePool] open_file_pool "tieralloc::FilePool::open_as"(
        FileMode mode, string path, FilePoolOptions options) except +raise_core_error


cdef extern from "slow_tier/file/engine.hpp" namespace "tieralloc" nogil:
    vector[string] c_fetch_engine_names "tieralloc::fetch_engine_names"() except +
    string c_fetch_engine_refusal "tieralloc::fetch_engine_refusal"(string name) except +


cdef extern from "slow_tier/memory/memory_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass MemoryPoolOptions:
        NodeRequest request
        double extra_ns
        unsigned overlap

    cdef cppclass MemoryPool(SlowPool):
        MemoryPool(MemoryPoolOptions options) except +raise_core_error


cdef extern from "slow_tier/promotion.hpp" namespace "tieralloc" nogil:
    cdef enum class PromotionRule "tieralloc::PromotionRule":
        automatic
        always
        never
