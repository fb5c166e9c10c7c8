# slow_tier/: pools of rows in a file or in memory, engines that read files, and promotion.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType, NodeRequest
from tieralloc._bindings.errors cimport raise_core_error


cdef extern from "base/types.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_TableRow "tieralloc::TableRow":
        uint64_t value


cdef extern from "slow_tier/row_order.hpp" namespace "tieralloc" nogil:
    cdef cppclass RowSpan "std::span<const std::uint64_t>":
        RowSpan(const uint64_t* first, size_t count)

    cdef cppclass LengthSpan "std::span<const std::uint32_t>":
        LengthSpan(const uint32_t* first, size_t count)

    cdef cppclass c_RowOrder "tieralloc::RowOrder":
        uint64_t num_rows()
        uint64_t num_pages()
        uint32_t rows_in(uint64_t page)
        uint64_t bytes()
        vector[uint64_t] arranged() except +

    shared_ptr[const c_RowOrder] make_row_order "std::make_shared<const tieralloc::RowOrder>"(
        string table, uint64_t rows, uint32_t rows_per_page, RowSpan arranged,
        LengthSpan page_lengths) except +raise_core_error


cdef extern from "slow_tier/slow_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass PageLayout "tieralloc::PageLayout":
        uint32_t rows_per_page
        uint32_t page_bytes
        c_bool has_footer
        uint64_t num_pages(uint64_t rows)
        @staticmethod
        PageLayout paged(uint32_t stride)

    uint32_t stride_of(uint32_t dim, DType dtype)


    cdef enum class Residency "tieralloc::Residency":
        automatic
        always
        never

    cdef cppclass TableLayout:
        PageLayout pages
        shared_ptr[const c_RowOrder] order
        uint64_t num_pages() const
        uint64_t offset
        Residency residency
        string name
        uint64_t rows
        uint32_t dim
        DType dtype
        uint32_t row_bytes() const
        uint32_t columns(DType out) const

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


cdef extern from "slow_tier/file/page_writer.hpp" namespace "tieralloc" nogil:
    vector[c_TableRow] rows_of_page(const TableLayout& table, uint64_t page) except +


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


cdef extern from "slow_tier/checkpoint/checkpoint_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass FileStamp:
        uint64_t inode
        uint64_t bytes
        int64_t modified_ns

    cdef cppclass CheckpointSource:
        string path
        FileStamp stamp

    cdef cppclass CheckpointPiece:
        uint32_t file
        uint64_t offset
        uint64_t rows

    cdef cppclass CheckpointTable:
        string name
        uint32_t dim
        DType dtype
        uint32_t stride
        vector[CheckpointPiece] pieces

    cdef cppclass CheckpointOptions:
        string name
        string engine
        c_bool direct
        unsigned queue_depth
        string overlay

    cdef cppclass CheckpointPool(SlowPool):
        CheckpointPool(vector[CheckpointSource] files, vector[CheckpointTable] tables,
                       CheckpointOptions options) except +raise_core_error


cdef extern from "slow_tier/checkpoint/joined_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass JoinedTable:
        DType dtype
        uint32_t dim
        string name
        vector[uint32_t] parts

    cdef cppclass JoinedPool(SlowPool):
        JoinedPool(unique_ptr[CheckpointPool] parts,
                   vector[JoinedTable] tables) except +raise_core_error


cdef extern from "slow_tier/promotion.hpp" namespace "tieralloc" nogil:
    cdef enum class PromotionRule "tieralloc::PromotionRule":
        automatic
        always
        never
