# store/: the store, its calls and its statistics.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport DType, NodeRequest, Statistics, byte
from tieralloc._bindings.core.eviction cimport PlannerMemory
from tieralloc._bindings.core.kernels cimport Mode
from tieralloc._bindings.core.policy cimport MakePolicy
from tieralloc._bindings.core.slow_tier cimport (
    PromotionRule,
    Residency,
    SlowPool,
    TableLayout,
    c_RowOrder,
    milliseconds,
)
from tieralloc._bindings.errors cimport raise_core_error


cdef extern from "store/bag_call.hpp" namespace "tieralloc" nogil:
    cdef cppclass SegmentSpan "std::span<const tieralloc::TableSegment>":
        SegmentSpan()
        SegmentSpan(const c_TableSegment* first, size_t count)

    cdef cppclass Integers:
        const void* data
        size_t size
        c_bool wide

    cdef cppclass c_TableSegment "tieralloc::TableSegment":
        const c_Table* table
        int64_t padding

    cdef enum class BoundsCheck "tieralloc::BoundsCheck":
        fatal
        warning
        default_row

    cdef enum class Accesses "tieralloc::Accesses":
        recorded
        unrecorded
        only_recorded

    cdef cppclass BagCall:
        SegmentSpan segments
        size_t bags
        Integers indices
        Integers offsets
        const void* weights
        Mode mode
        BoundsCheck bounds
        byte* out
        size_t out_stride
        DType out_dtype

    cdef cppclass CallSpan "std::span<const tieralloc::BagCall>":
        CallSpan()
        CallSpan(const BagCall* first, size_t count)


cdef extern from "store/access_samples.hpp" namespace "tieralloc" nogil:
    cdef cppclass AccessSamples:
        vector[uint64_t] rows
        vector[uint32_t] lengths
        uint64_t dropped


cdef extern from "store/store_stats.hpp" namespace "tieralloc" nogil:
    cdef cppclass PolicyStats:
        pass

    cdef cppclass StoreStats:
        pass

    Statistics statistics_of(const PolicyStats& stats) except +
    Statistics statistics_of(const StoreStats& stats) except +
    Statistics c_all_statistics "tieralloc::all_statistics"() except +


cdef extern from "slow_tier/delta.hpp" namespace "tieralloc" nogil:
    cdef cppclass DeltaPart:
        const TableLayout* table
        uint64_t rows

    cdef cppclass DeltaPartSpan "std::span<const tieralloc::DeltaPart>":
        DeltaPartSpan()
        DeltaPartSpan(const DeltaPart* first, size_t count)


cdef extern from "store/async_lookups.hpp" namespace "tieralloc" nogil:
    cdef cppclass AsyncLookup:
        c_bool is_done() except +raise_core_error
        c_bool wait_for(milliseconds duration) except +raise_core_error
        uint64_t result() except +raise_core_error
        void cancel()


cdef extern from "store/delta.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_Delta "tieralloc::Delta":
        void stage(const c_Table& table, Integers indices,
                   const byte* values) except +raise_core_error
        void stage_floats(const c_Table& table, Integers indices,
                          const float* values) except +raise_core_error
        uint64_t commit(uint64_t version) except +raise_core_error
cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass c_atomic_flag "std::atomic<bool>":
        c_bool load()


cdef extern from "store/store.hpp" namespace "tieralloc" nogil:
    cdef cppclass SavedRow:
        uint64_t word

    cdef cppclass SavedRowSpan "std::span<const tieralloc::SavedRow>":
        SavedRowSpan()
        SavedRowSpan(const SavedRow* first, size_t count)

    cdef cppclass PlannedPolicy:
        MakePolicy make
        string simple
        c_bool pauses
        c_bool in_background

    cdef cppclass FastBudget:
        uint64_t bytes
        uint64_t rows
        c_bool none
        c_bool in_place

    cdef cppclass StoreOptions:
        FastBudget budget
        string policy
        uint64_t seed
        unsigned prefetch_threads
        size_t prefetch_queue
        NodeRequest fast_node
        vector[int] cpus
        PromotionRule promotion

    cdef cppclass c_Table "tieralloc::Table":
        TableLayout layout
        uint64_t num_rows()
        c_atomic_flag is_dropped

    cdef cppclass c_Store "tieralloc::Store":
        c_Store(unique_ptr[SlowPool] pool, StoreOptions options) except +raise_core_error
        const c_Table& create_table(string name, uint64_t rows, uint32_t dim,
                                    DType dtype, Residency residency,
                                    shared_ptr[const c_RowOrder] order) except +raise_core_error
        c_bool is_resident(const c_Table& table) except +raise_core_error
        vector[const c_Table*] tables() except +raise_core_error
        vector[uint64_t] damaged_pages(const c_Table& table, uint64_t first,
                                       uint64_t n) except +raise_core_error
        void load(const c_Table& table, uint64_t first, uint64_t n,
                  const byte* values) except +raise_core_error
        void load_floats(const c_Table& table, uint64_t first, uint64_t n,
                         const float* values) except +raise_core_error
        uint64_t embedding_bag(const BagCall& call) except +raise_core_error
        shared_ptr[AsyncLookup] submit(const BagCall& call) except +raise_core_error
        uint64_t embedding_bags(CallSpan calls, Accesses accesses) except +raise_core_error
        c_bool records()
        void update_floats(const c_Table& table, Integers indices, const float* values,
                           c_bool in_bulk) except +raise_core_error
        void update(const c_Table& table, Integers indices, const byte* values,
                    c_bool in_bulk) except +raise_core_error
        uint64_t prefetch(const BagCall& call) except +raise_core_error
        void pin(const c_Table& table, Integers indices) except +raise_core_error
        void unpin(const c_Table& table, Integers indices) except +raise_core_error
        void flush() except +raise_core_error
        void close(vector[SavedRow]* resident) except +raise_core_error
        void resize(const FastBudget& budget) except +raise_core_error
        void reserve(const c_Table& table, uint64_t bytes) except +raise_core_error
        void drop_table(const c_Table& table) except +raise_core_error
        void grow_table(const c_Table& table, uint64_t rows) except +raise_core_error
        TableLayout layout_of(const c_Table& table) except +raise_core_error
        uint64_t warm_up(SavedRowSpan rows) except +raise_core_error
        vector[SavedRow] resident_rows() except +raise_core_error
        uint64_t copy_residents(c_Store& source) except +raise_core_error
        void copy_pins(c_Store& source) except +raise_core_error
        uint64_t store_id() except +raise_core_error
        uint64_t version() except +raise_core_error
        unique_ptr[c_Delta] begin_delta(DeltaPartSpan parts) except +raise_core_error
        c_bool closed()
        c_bool belongs_here()
        StoreStats stats() except +raise_core_error
        string write_back_error() except +raise_core_error
        void reset_stats() except +raise_core_error
        AccessSamples record_accesses(size_t capacity) except +raise_core_error
        AccessSamples drain_accesses() except +raise_core_error
        vector[uint64_t] capacities() except +raise_core_error
        void use_policy(const PlannedPolicy& policy) except +raise_core_error
        size_t step_policy() except +raise_core_error
        PolicyStats policy_stats() except +raise_core_error
        void use_policy(string name) except +raise_core_error
        void settle() except +raise_core_error
        @staticmethod
        void check(StoreOptions options) except +raise_core_error


cdef extern from "store/held_policy.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_HeldPolicy "tieralloc::HeldPolicy":
        c_HeldPolicy(c_Store& store) except +raise_core_error
        const vector[PlannerMemory]& tiers()
        void adopt(size_t tier) except +raise_core_error
