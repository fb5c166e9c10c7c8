# The tiered store: argument checks, buffers borrowed, the GIL released, errors translated.

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    Py_buffer,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from libcpp cimport bool as c_bool

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass PartSpan "std::span<const tieralloc::TablePart>":
        PartSpan()
        PartSpan(const c_TablePart* first, size_t count)


cdef extern from "<cstddef>" namespace "std" nogil:
    cdef cppclass byte:
        pass


cdef extern from "base/dtype.hpp" namespace "tieralloc" nogil:
    cdef enum class DType "tieralloc::DType":
        float32
        float16
        bfloat16
        float64

    size_t size_of(DType dtype) noexcept


cdef extern from "kernels/kernels.hpp" namespace "tieralloc" nogil:
    cdef enum class Mode "tieralloc::Mode":
        copy
        sum
        mean
        max

    const char* c_kernel_isa "tieralloc::kernel_isa"()


cdef extern from "slow_tier/slow_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass TableLayout:
        string name
        uint64_t rows
        uint32_t dim
        DType dtype
        uint32_t stride

    cdef cppclass SlowPool:
        pass


cdef extern from "slow_tier/file/file_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass FilePoolOptions:
        string engine
        c_bool direct
        c_bool reserve
        unsigned queue_depth

    cdef enum class FileMode "tieralloc::FileMode":
        read
        update
        append
        write

    cdef cppclass FilePool(SlowPool):
        c_bool is_new() const

    unique_ptr[FilePool] open_file_pool "tieralloc::FilePool::open_as"(
        FileMode mode, string path, FilePoolOptions options) except +raise_core_error


cdef extern from "base/numa/placement.hpp" namespace "tieralloc" nogil:
    cdef cppclass NodeRequest:
        int node
        c_bool prefer
        c_bool strict

    cdef cppclass Placement:
        int node
        c_bool prefer
        uint64_t pages
        uint64_t elsewhere
        string refused
        string unverified


cdef extern from "slow_tier/slow_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass MemoryTraits:
        Placement placement
        uint64_t huge_page_bytes
        double extra_ns
        unsigned overlap


cdef extern from "slow_tier/memory/memory_pool.hpp" namespace "tieralloc" nogil:
    cdef cppclass MemoryPoolOptions:
        NodeRequest request
        double extra_ns
        unsigned overlap

    cdef cppclass MemoryPool(SlowPool):
        MemoryPool(MemoryPoolOptions options) except +raise_core_error


cdef extern from "slow_tier/admission.hpp" namespace "tieralloc" nogil:
    cdef enum class AdmissionRule "tieralloc::AdmissionRule":
        automatic
        always
        never

    cdef cppclass LineCosts:
        double slow_ns
        double fast_ns

    cdef cppclass AdmissionView:
        AdmissionRule rule
        c_bool admits
        uint64_t trials
        double with_copies_ns
        double in_place_ns
        double copy_ns
        LineCosts costs


cdef extern from "slow_tier/file/engine.hpp" namespace "tieralloc" nogil:
    vector[string] c_fetch_engine_names "tieralloc::fetch_engine_names"() except +
    string c_fetch_engine_refusal "tieralloc::fetch_engine_refusal"(string name) except +


cdef extern from "store/bag_call.hpp" namespace "tieralloc" nogil:
    cdef cppclass Integers:
        const void* data
        size_t size
        c_bool wide

    cdef cppclass c_TablePart "tieralloc::TablePart":
        const c_Table* table
        int64_t padding

    cdef enum class BoundsCheck "tieralloc::BoundsCheck":
        fatal
        warning

    cdef cppclass BagCall:
        PartSpan parts
        size_t bags
        Integers indices
        Integers offsets
        const void* weights
        Mode mode
        BoundsCheck bounds
        byte* out
        size_t out_stride
        DType out_dtype


cdef extern from "base/histogram.hpp" namespace "tieralloc" nogil:
    cdef cppclass HistogramSum:
        uint64_t count() const
        uint64_t max() const
        uint64_t percentile(double fraction) const


cdef extern from "store/access_samples.hpp" namespace "tieralloc" nogil:
    cdef cppclass AccessSamples:
        vector[uint64_t] rows
        vector[uint32_t] lengths


cdef extern from "store/store.hpp" namespace "tieralloc" nogil:
    cdef cppclass PlannedPolicy:
        MakePolicy make
        string simple
        c_bool pauses
        c_bool in_background

    cdef cppclass PolicyStats:
        c_bool planned
        string state
        string reason
        uint64_t steps
        uint64_t observed
        double cpu_seconds
        double mean_lag
        uint64_t max_lag
        uint64_t pauses
        double saved_seconds
        double spent_seconds
        vector[LearnedStats] tiers

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
        AdmissionRule admission

    cdef cppclass c_Table "tieralloc::Table":
        TableLayout layout

    cdef cppclass TierBytes:
        size_t vectors
        size_t index
        size_t metadata

    cdef cppclass TierCounts:
        uint64_t evictions
        uint64_t bypassed
        uint64_t prefetches_issued
        uint64_t prefetches_useless
        uint64_t write_backs
        uint64_t write_back_errors

    cdef cppclass SlowTierStats:
        string kind
        string path
        string engine
        uint64_t bytes
        uint64_t page_cache_bytes
        c_bool in_place
        MemoryTraits memory
        AdmissionView admission

    cdef cppclass StoreStats:
        uint64_t calls
        uint64_t lookups
        uint64_t hits
        uint64_t on_demand_fetches
        uint64_t shared_fetches
        uint64_t out_of_range
        uint64_t waited_ns
        uint64_t prefetches_useful
        uint64_t prefetches_late
        uint64_t prefetches_dropped
        uint64_t updates
        TierCounts tiers
        uint64_t fast_rows
        uint64_t resident_rows
        uint64_t pinned_rows
        uint64_t dirty_rows
        TierBytes dram
        uint64_t staging_bytes
        uint64_t access_ring_bytes
        uint64_t policy_bytes
        uint64_t accesses_dropped
        uint64_t huge_page_bytes
        SlowTierStats slow
        Placement fast_placement
        vector[int] cpus
        string index_kind
        string write_back_error
        HistogramSum call_hit
        HistogramSum call_on_demand
        HistogramSum row_hit
        HistogramSum row_on_demand

    cdef cppclass c_Store "tieralloc::Store":
        c_Store(unique_ptr[SlowPool] pool, StoreOptions options) except +raise_core_error
        const c_Table& create_table(string name, uint64_t rows, uint32_t dim,
                                    DType dtype) except +raise_core_error
        vector[const c_Table*] tables() except +raise_core_error
        void load(const c_Table& table, uint64_t first, uint64_t n,
                  const byte* values) except +raise_core_error
        uint64_t embedding_bag(const BagCall& call) except +raise_core_error
        void update(const c_Table& table, Integers indices,
                    const byte* values) except +raise_core_error
        uint64_t prefetch(const BagCall& call) except +raise_core_error
        void pin(const c_Table& table, Integers indices) except +raise_core_error
        void unpin(const c_Table& table, Integers indices) except +raise_core_error
        void flush() except +raise_core_error
        void close() except +raise_core_error
        c_bool closed()
        c_bool belongs_here()
        StoreStats stats() except +raise_core_error
        void reset_stats() except +raise_core_error
        void record_accesses(size_t capacity) except +raise_core_error
        AccessSamples drain_accesses() except +raise_core_error
        vector[uint64_t] capacities() except +raise_core_error
        void use_policy(const PlannedPolicy& policy) except +raise_core_error
        size_t step_policy() except +raise_core_error
        PolicyStats policy_stats() except +raise_core_error
        void use_policy(string name) except +raise_core_error
        void settle() except +raise_core_error
        @staticmethod
        void check(StoreOptions options) except +raise_core_error


cdef _DTYPES = {
    "float32": <int>DType.float32,
    "float16": <int>DType.float16,
    "bfloat16": <int>DType.bfloat16,
    "float64": <int>DType.float64,
}
cdef _DTYPE_NAMES = {code: name for name, code in _DTYPES.items()}
cdef _MODES = {"sum": <int>Mode.sum, "mean": <int>Mode.mean, "max": <int>Mode.max}
cdef _ADMISSIONS = {
    "auto": <int>AdmissionRule.automatic,
    "always": <int>AdmissionRule.always,
    "never": <int>AdmissionRule.never,
}
cdef _FILE_MODES = {
    "r": <int>FileMode.read,
    "r+": <int>FileMode.update,
    "a": <int>FileMode.append,
    "w": <int>FileMode.write,
}
cdef _BOUNDS = {"fatal": <int>BoundsCheck.fatal, "warning": <int>BoundsCheck.warning}


cdef int _choice(dict choices, object value, str what) except -1:
    try:
        return choices[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{what} is {value!r}, expected one of {known}") from None


cdef class _Buffer:
    """Memory lent by a Python object for as long as this object lives."""

    cdef Py_buffer view
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef int borrow(self, object source, bint writable) except -1:
        cdef int flags = PyBUF_FORMAT | PyBUF_STRIDES
        PyObject_GetBuffer(source, &self.view, flags | PyBUF_WRITABLE if writable else flags)
        self.held = True
        return 0


cdef class _Ints(_Buffer):
    """A one-dimensional array of int32 or int64, copied only where it is not dense and aligned."""

    cdef Integers integers

    cdef int take(self, object source, str what) except -1:
        if not isinstance(source, np.ndarray):
            source = np.asarray(source)
            if source.size == 0 and source.dtype.kind == "f":
                source = source.astype(np.int64)  # what numpy makes of an empty list
        if source.dtype.kind != "i" or source.dtype.itemsize < 4:
            raise TypeError(f"{what} are {source.dtype}, expected int32 or int64")
        if source.ndim != 1:
            raise ValueError(f"{what} have shape {source.shape}, expected one dimension")
        flags = source.flags
        if not (flags.c_contiguous and flags.aligned and source.dtype.isnative):
            source = np.require(source, source.dtype.newbyteorder("="), ("C", "A"))
        self.borrow(source, False)
        self.integers.data = self.view.buf
        self.integers.size = <size_t>self.view.shape[0]
        self.integers.wide = self.view.itemsize == 8
        return 0


cdef _numpy_dtype(DType dtype):
    """The NumPy type of rows; bfloat16, which NumPy lacks, passes as the uint16 of its bits."""
    name = _DTYPE_NAMES[<int>dtype]
    return np.dtype(np.uint16 if name == "bfloat16" else name)


cdef bint _holds(object dtype, DType wanted):
    name = _DTYPE_NAMES[<int>wanted]
    return dtype == _numpy_dtype(wanted) or (name == "bfloat16" and dtype.name == name)


cdef _Buffer _rows_of(object values, const c_Table* table, Py_ssize_t expected):
    """Borrow values of whole rows, contiguous, of the table's type; `expected` -1: any number."""
    array = np.asarray(values)
    cdef const TableLayout* layout = &table.layout
    name = layout.name.decode()
    if not _holds(array.dtype, layout.dtype):
        raise TypeError(f"values are {_dtype_text(array.dtype)}, "
                        f"expected {_DTYPE_NAMES[<int>layout.dtype]} "
                        f"as table {name!r} has it")
    if array.ndim != 2 or array.shape[1] != layout.dim or (
            expected >= 0 and array.shape[0] != expected):
        rows = "n" if expected < 0 else expected
        raise ValueError(f"values have shape {array.shape}, expected ({rows}, {layout.dim}) "
                         f"for table {name!r}")
    lent = _Buffer()
    # Viewed as bytes: NumPy exports no buffer of types that are not its own.
    lent.borrow(np.ascontiguousarray(array).view(np.uint8), False)
    return lent


cdef class _Out:
    """Where results go: the caller's array, or a new one."""

    cdef object array
    cdef _Buffer lent
    cdef size_t stride
    cdef DType dtype

    cdef int take(self, object out, Py_ssize_t lines, Py_ssize_t columns, DType dtype,
                  bint may_widen) except -1:
        self.dtype = dtype
        if out is None:
            self.array = np.empty((lines, columns), dtype=_numpy_dtype(dtype))
            target = self.array
        else:
            self.array = out
            target = self.as_lines(out, lines, columns, may_widen)
        self.stride = <size_t>target.strides[0] if lines > 1 else 0
        self.lent = _Buffer()
        # NumPy exports no buffer of types that are not its own.
        self.lent.borrow(target.view(_numpy_dtype(self.dtype)), True)
        return 0

    cdef object as_lines(self, object out, Py_ssize_t lines, Py_ssize_t columns, bint may_widen):
        array = _array_over(out)
        if not array.flags.writeable:
            raise ValueError("out is read-only, expected a writable buffer")
        own = _numpy_dtype(self.dtype)
        flat = array.ndim == 1 and array.flags.c_contiguous
        if flat and array.dtype == np.uint8:
            if array.size != lines * columns * own.itemsize:
                raise ValueError(f"out has {array.size} bytes, expected {lines} x {columns} of "
                                 f"{own.itemsize}")
            array = array.view(own)
        if may_widen and array.dtype == np.float32:
            self.dtype = DType.float32
        elif not _holds(array.dtype, self.dtype):
            raise TypeError(f"out is of {_dtype_text(array.dtype)}, expected "
                            f"{_DTYPE_NAMES[<int>self.dtype]}{' or float32' if may_widen else ''}")
        if flat and array.size == lines * columns:
            array = array.reshape(lines, columns)
        if array.shape != (lines, columns):
            raise ValueError(f"out has shape {array.shape}, expected {(lines, columns)}")
        if not array.flags.aligned:
            raise ValueError(f"out begins between two multiples of {array.itemsize} bytes, expected "
                             "aligned elements")
        # The strides of an array without elements mean nothing.
        if array.size > 0 and (
                columns > 1 and array.strides[1] != array.itemsize
                or lines > 1 and array.strides[0] < columns * array.itemsize):
            raise ValueError(f"out has strides {array.strides}, expected dense rows of "
                             f"{array.itemsize} bytes an element, one behind the other")
        return array


cdef object _array_over(object out):
    if isinstance(out, np.ndarray):
        return out
    try:
        return np.asarray(memoryview(out))
    except TypeError:
        raise TypeError(f"out is of type {type(out).__name__}, expected an array or another "
                        "writable buffer") from None


cdef object _dtype_text(object dtype):
    return dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"


def fetch_engines():
    """Ways to read a file's rows, the best first, each with why this machine refuses it.

    Returns
    -------
    dict of str to str
        An empty string where the engine works here.
    """
    return {name.decode(): c_fetch_engine_refusal(name).decode() for name in c_fetch_engine_names()}


def kernel_isa():
    """The instruction set whose pooling kernels this processor runs."""
    return c_kernel_isa().decode()


cdef class Store:
    """The C++ store; `tieralloc.TieredStore` is its public face.

    Parameters
    ----------
    path : bytes or None
        The slow tier's file.
    mode : {"r", "r+", "a", "w"}
        As of `tieralloc.File`.
    memory : tuple of (int, bool, bool, float, int) or None
        Without a file, memory as the slow tier: its node (-1: any), whether the node is merely
        preferred, whether it is an error that the kernel refuses to bind it, extra latency per
        cache line in ns, and lines whose latencies overlap.
    fast_bytes, fast_rows : int
        One of them above 0; with `memory` both may be 0: no fast tier.
    policy : str
        One of `eviction_policy_names`.
    engine : str
        "auto" or one of `fetch_engines`.
    direct, reserve : bool
        Bypass the page cache; take disk blocks when a table is made.
    queue_depth, prefetch_threads : int
        Reads under way at a time, threads that prefetch.
    fast_node : tuple of (int, bool, bool)
        The fast tier's node, as the first three of `memory`.
    cpus : sequence of int
        Processors of background threads; none: those of the slow tier's node, or any.
    promotion : str
        "auto", "always" or "never".
    """

    cdef unique_ptr[c_Store] _store
    cdef vector[const c_Table*] _tables  # addresses stay; the GIL guards the list

    def __cinit__(self, bytes path, *, str mode not None, memory, uint64_t fast_bytes,
                  uint64_t fast_rows, str policy not None, str engine not None, bint direct,
                  bint reserve, unsigned queue_depth, unsigned prefetch_threads,
                  fast_node, cpus, str promotion not None):
        cdef FileMode file_mode = <FileMode>_choice(_FILE_MODES, mode, "mode")
        cdef FilePoolOptions pool_options
        pool_options.engine = engine.encode()
        pool_options.direct = direct
        pool_options.reserve = reserve
        pool_options.queue_depth = queue_depth
        cdef StoreOptions options
        options.budget.bytes = fast_bytes
        options.budget.rows = fast_rows
        options.policy = policy.encode()
        options.prefetch_threads = prefetch_threads
        options.fast_node.node, options.fast_node.prefer, options.fast_node.strict = fast_node
        options.admission = <AdmissionRule>_choice(_ADMISSIONS, promotion, "promotion")
        for cpu in cpus:
            options.cpus.push_back(cpu)
        cdef string c_path = b"" if path is None else path
        cdef MemoryPoolOptions memory_options
        cdef unique_ptr[FilePool] file
        cdef unique_ptr[SlowPool] pool
        cdef bint is_new = False
        cdef bint in_memory = memory is not None
        if in_memory:
            memory_options.request.node = memory[0]
            memory_options.request.prefer = memory[1]
            memory_options.request.strict = memory[2]
            memory_options.extra_ns = memory[3]
            memory_options.overlap = memory[4]
            options.budget.in_place = True
        options.budget.none = fast_bytes == 0 and fast_rows == 0
        with nogil:
            c_Store.check(options)  # before there is a file
            if in_memory:
                pool.reset(new MemoryPool(memory_options))
            else:
                file = open_file_pool(file_mode, c_path, pool_options)
                is_new = file.get().is_new()
                pool.reset(file.release())
        try:
            with nogil:
                self._store.reset(new c_Store(move(pool), options))
        except BaseException:
            if is_new:
                os.unlink(path)
            raise
        self._tables = self._store.get().tables()

    def __dealloc__(self):
        cdef c_Store* store = self._store.release()
        # In a forked child the store's threads are missing: nothing of it can be ended there.
        if store != NULL and store.belongs_here():
            with nogil:
                del store

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL:
        if not 0 <= position < <Py_ssize_t>self._tables.size():
            raise IndexError(f"table {position} of {self._tables.size()}")
        return self._tables[position]

    def create_table(self, str name not None, uint64_t rows, uint32_t dim, str dtype):
        """Make a table of zeros; returns its position among the store's tables."""
        cdef string c_name = name.encode()
        cdef DType c_dtype = <DType>_choice(_DTYPES, dtype, "dtype")
        with nogil:
            self._store.get().create_table(c_name, rows, dim, c_dtype)
        self._tables = self._store.get().tables()
        return <Py_ssize_t>self._tables.size() - 1

    def tables(self):
        """Name, rows, dim and dtype of each table, in order of creation."""
        cdef const c_Table* table
        found = []
        for table in self._tables:
            found.append((table.layout.name.decode(), table.layout.rows, table.layout.dim,
                          _DTYPE_NAMES[<int>table.layout.dtype]))
        return found

    def load(self, Py_ssize_t position, uint64_t first, values):
        """Write rows from `first` on past the fast tier; returns how many."""
        cdef const c_Table* table = self._table(position)
        cdef _Buffer lent = _rows_of(values, table, -1)
        cdef uint64_t rows = <uint64_t>lent.view.shape[0]
        with nogil:
            self._store.get().load(table[0], first, rows, <const byte*>lent.view.buf)
        return rows

    def settle(self):
        """Let the page cache forget what a series of loads wrote."""
        with nogil:
            self._store.get().settle()

    def lookup(self, Py_ssize_t position, indices, out, str bounds):
        """Copy rows; returns the array and how many indices were out of range."""
        cdef c_TablePart part
        part.table = self._table(position)
        part.padding = -1
        cdef _Ints ints = _Ints()
        ints.take(indices, "indices")
        cdef BagCall call
        call.mode = Mode.copy
        call.parts = PartSpan(&part, 1)
        call.bags = ints.integers.size
        call.indices = ints.integers
        return self._serve(call, out, part.table.layout.dim, part.table.layout.dtype, bounds)

    def embedding_bag(self, positions, paddings, indices, offsets, bint include_last_offset,
                      str mode, per_sample_weights, out, str bounds):
        """Pool bags of rows of one table or several; returns as `lookup` does."""
        cdef vector[c_TablePart] parts
        cdef DType dtype = self._parts(positions, paddings, parts)
        cdef BagCall call
        cdef _Ints ints = _Ints()
        cdef _Ints ends = _Ints()
        ints.take(indices, "indices")
        ends.take(offsets, "offsets")
        call.indices = ints.integers
        call.offsets = ends.integers
        call.bags = _bags_of(ends.integers.size, parts.size(), include_last_offset)
        call.mode = <Mode>_choice(_MODES, mode, "mode")
        cdef _Buffer weights = _weights_of(per_sample_weights, ints.integers.size, dtype, mode)
        if weights is not None:
            call.weights = weights.view.buf
        call.parts = PartSpan(parts.data(), parts.size())
        cdef Py_ssize_t columns = 0
        cdef c_TablePart part
        for part in parts:
            columns += part.table.layout.dim
        return self._serve(call, out, columns, dtype, bounds)

    cdef DType _parts(self, positions, paddings, vector[c_TablePart]& parts) except *:
        """The tables asked for and the type of a result that holds all of them."""
        cdef c_TablePart part
        cdef DType dtype = DType.float32
        for i, position in enumerate(positions):
            part.table = self._table(position)
            part.padding = -1 if paddings is None else paddings[i]
            parts.push_back(part)
            if i == 0:
                dtype = part.table.layout.dtype
            elif part.table.layout.dtype != dtype:
                if dtype == DType.float64 or part.table.layout.dtype == DType.float64:
                    raise TypeError("tables of float64 and of narrower types have no common "
                                    "result; expected one kind in a call")
                dtype = DType.float32
        if parts.empty():
            raise ValueError("expected at least one table, got none")
        return dtype

    cdef _serve(self, BagCall& call, out, Py_ssize_t columns, DType dtype, str bounds):
        cdef _Out place = _Out()
        place.take(out, <Py_ssize_t>call.bags, columns, dtype, size_of(dtype) == 2)
        call.bounds = <BoundsCheck>_choice(_BOUNDS, bounds, "bounds_check_mode")
        call.out = <byte*>place.lent.view.buf
        call.out_stride = place.stride
        call.out_dtype = place.dtype
        cdef uint64_t outside
        with nogil:
            outside = self._store.get().embedding_bag(call)
        return place.array, outside

    def update(self, Py_ssize_t position, indices, values):
        """Set rows to new values."""
        cdef const c_Table* table = self._table(position)
        cdef _Ints ints = _Ints()
        ints.take(indices, "indices")
        cdef _Buffer lent = _rows_of(values, table, <Py_ssize_t>ints.integers.size)
        with nogil:
            self._store.get().update(table[0], ints.integers, <const byte*>lent.view.buf)

    def prefetch(self, positions, indices, offsets, bint include_last_offset, str bounds):
        """Queue rows to be fetched; returns how many were queued."""
        cdef vector[c_TablePart] parts
        self._parts(positions, None, parts)
        cdef BagCall call
        cdef _Ints ints = _Ints()
        cdef _Ints ends = _Ints()
        ints.take(indices, "indices")
        call.indices = ints.integers
        call.bags = ints.integers.size
        if offsets is not None:
            ends.take(offsets, "offsets")
            call.offsets = ends.integers
            call.bags = _bags_of(ends.integers.size, parts.size(), include_last_offset)
        call.parts = PartSpan(parts.data(), parts.size())
        call.bounds = <BoundsCheck>_choice(_BOUNDS, bounds, "bounds_check_mode")
        cdef uint64_t queued
        with nogil:
            queued = self._store.get().prefetch(call)
        return queued

    def pin(self, Py_ssize_t position, indices):
        """Make rows resident for good."""
        cdef const c_Table* table = self._table(position)
        cdef _Ints ints = _Ints()
        ints.take(indices, "indices")
        with nogil:
            self._store.get().pin(table[0], ints.integers)

    def unpin(self, Py_ssize_t position, indices):
        """Let the policy evict rows again."""
        cdef const c_Table* table = self._table(position)
        cdef _Ints ints = _Ints()
        ints.take(indices, "indices")
        with nogil:
            self._store.get().unpin(table[0], ints.integers)

    def record_accesses(self, size_t capacity):
        """Record accesses in a ring of `capacity` words a thread; 0 ends that."""
        with nogil:
            self._store.get().record_accesses(capacity)

    def drain_accesses(self):
        """Take the accesses recorded, sample by sample: rows, uint64, and lengths, uint32."""
        cdef AccessSamples samples
        with nogil:
            samples = self._store.get().drain_accesses()
        lengths = np.empty(samples.lengths.size(), dtype=np.uint32)
        cdef uint32_t[::1] view = lengths
        if samples.lengths.size() > 0:
            memcpy(&view[0], samples.lengths.data(), samples.lengths.size() * sizeof(uint32_t))
        return _row_array(samples.rows), lengths

    def capacities(self):
        """Rows of each fast tier."""
        cdef vector[uint64_t] capacities
        with nogil:
            capacities = self._store.get().capacities()
        return list(capacities)

    def use_policy(self, str name not None):
        """Have a simple policy decide which rows are evicted."""
        cdef string c_name = name.encode()
        with nogil:
            self._store.get().use_policy(c_name)

    def use_planned(self, PlannedModel model not None, str simple not None, *, bint pauses,
                    bint in_background, size_t max_bytes, double prefetch_cost, bint selects):
        """Have a model decide, and a simple policy while it pauses or after it failed."""
        cdef PlannedPolicy policy
        cdef LearnedOptions options
        options.max_bytes = max_bytes
        options.prefetch_cost = prefetch_cost
        options.selects = selects
        options.whole_samples = True
        policy.make = model._maker(options)
        policy.simple = simple.encode()
        policy.pauses = pauses
        policy.in_background = in_background
        with nogil:
            self._store.get().use_policy(policy)

    def step_policy(self):
        """Make a step of a model that is not in the background; returns the accesses observed."""
        cdef size_t observed
        with nogil:
            observed = self._store.get().step_policy()
        return observed

    def policy_stats(self):
        """What a model did, or None where a simple policy decides."""
        cdef PolicyStats stats
        with nogil:
            stats = self._store.get().policy_stats()
        if not stats.planned:
            return None
        return {
            "state": stats.state.decode(),
            "reason": stats.reason.decode("utf-8", "replace"),
            "steps": stats.steps,
            "accesses_observed": stats.observed,
            "cpu_seconds": stats.cpu_seconds,
            "policy_lag": {"mean": stats.mean_lag, "max": stats.max_lag},
            "pauses": stats.pauses,
            "saved_seconds": stats.saved_seconds,
            "spent_seconds": stats.spent_seconds,
            "tiers": [_learned_dict(tier) for tier in stats.tiers],
        }

    def flush(self):
        """Return once every update made before is in the slow tier for good."""
        with nogil:
            self._store.get().flush()

    def close(self):
        """Flush and end; closing twice does nothing."""
        with nogil:
            self._store.get().close()

    @property
    def closed(self):
        """Whether `close` has ended the store."""
        return self._store.get().closed()

    @property
    def belongs_here(self):
        """False in a forked child of the process that made the store."""
        return self._store.get().belongs_here()

    def reset_stats(self):
        """Start all counters and histograms anew."""
        with nogil:
            self._store.get().reset_stats()

    def stats(self):
        """All figures, as `TieredStore.stats` documents them, but for the policy's name."""
        cdef unique_ptr[StoreStats] holder = unique_ptr[StoreStats](new StoreStats())
        cdef StoreStats* stats = holder.get()
        with nogil:
            stats[0] = self._store.get().stats()
        return _stats_dict(stats)


cdef _row_array(const vector[uint64_t]& rows):
    array = np.empty(rows.size(), dtype=np.uint64)
    cdef uint64_t[::1] view = array
    if rows.size() > 0:
        memcpy(&view[0], rows.data(), rows.size() * sizeof(uint64_t))
    return array


cdef size_t _bags_of(size_t offsets, size_t tables, bint include_last_offset) except? 0:
    cdef size_t bags = offsets
    if include_last_offset:
        if offsets == 0:
            raise ValueError("expected at least one offset, the end of the last bag, got none")
        bags -= 1
    if bags % tables != 0:
        raise ValueError(f"{bags} bags do not share out among {tables} tables; expected tables x "
                         f"bags{' + 1' if include_last_offset else ''} offsets, got {offsets}")
    return bags // tables


cdef _Buffer _weights_of(weights, size_t expected, DType dtype, str mode):
    if weights is None:
        return None
    if mode != "sum":
        raise ValueError(f"per_sample_weights go with mode 'sum' only, got mode {mode!r}")
    wanted = np.dtype(np.float64 if dtype == DType.float64 else np.float32)
    # A list's numbers have no type of their own.
    array = np.asarray(weights, dtype=wanted if isinstance(weights, (list, tuple)) else None)
    if array.dtype != wanted:
        raise TypeError(f"per_sample_weights are {_dtype_text(array.dtype)}, expected {wanted}")
    if array.shape != (expected,):
        raise ValueError(f"per_sample_weights have shape {array.shape}, expected ({expected},): "
                         "one an index")
    lent = _Buffer()
    lent.borrow(np.require(array, requirements=("C", "A")), False)
    return lent


cdef _latency_dict(const HistogramSum& histogram):
    return {
        "count": histogram.count(),
        "p50": histogram.percentile(0.5),
        "p90": histogram.percentile(0.9),
        "p99": histogram.percentile(0.99),
        "p999": histogram.percentile(0.999),
        "max": histogram.max(),
    }


cdef _placement_dict(const Placement& placement):
    """Where memory lies, or None where nobody asked for a place."""
    if placement.node < 0:
        return None
    refused = placement.refused.decode("utf-8", "replace")
    unverified = placement.unverified.decode("utf-8", "replace")
    return {
        "node": placement.node,
        "mode": "unbound" if refused else "prefer" if placement.prefer else "bind",
        "pages": placement.pages,
        "pages_elsewhere": None if unverified else placement.elsewhere,
        "refused": refused or unverified,
    }


cdef _admission_dict(const SlowTierStats& slow):
    cdef const AdmissionView* view = &slow.admission
    cdef const LineCosts* costs = &view.costs
    return {
        "rule": next(name for name, rule in _ADMISSIONS.items() if rule == <int>view.rule),
        "copies": view.admits,
        "trials": view.trials,
        "lookup_ns_with_copies": view.with_copies_ns or None,
        "lookup_ns_in_place": view.in_place_ns or None,
        "copy_ns": view.copy_ns or None,
        "slow_line_ns": costs.slow_ns,
        "fast_line_ns": costs.fast_ns,
        "cost_ratio": costs.slow_ns / costs.fast_ns if costs.fast_ns > 0 else 1.0,
    }


cdef _slow_tier_dict(const SlowTierStats& slow):
    tier = {
        "kind": slow.kind.decode(),
        "path": os.fsdecode(<bytes>slow.path),
        "engine": slow.engine.decode(),
        "bytes": slow.bytes,
        "emulated": slow.memory.extra_ns > 0,
    }
    if slow.in_place:
        tier["placement"] = _placement_dict(slow.memory.placement)
        tier["huge_page_bytes"] = slow.memory.huge_page_bytes
    if slow.memory.extra_ns > 0:
        tier["extra_ns"] = slow.memory.extra_ns
        tier["overlap"] = slow.memory.overlap
    return tier


cdef _stats_dict(const StoreStats* stats):
    dram = {
        "vectors": stats.dram.vectors,
        "index": stats.dram.index,
        "metadata": stats.dram.metadata,
        "staging": stats.staging_bytes,
        "access_rings": stats.access_ring_bytes,
        "policy": stats.policy_bytes,
        "page_cache": stats.slow.page_cache_bytes,
    }
    return {
        "calls": stats.calls,
        "lookups": stats.lookups,
        "hits": stats.hits,
        "on_demand_fetches": stats.on_demand_fetches,
        "shared_fetches": stats.shared_fetches,
        "out_of_range": stats.out_of_range,
        "on_demand_seconds": stats.waited_ns * 1e-9,
        "accesses_dropped": stats.accesses_dropped,
        "evictions": stats.tiers.evictions,
        "bypassed": stats.tiers.bypassed,
        "prefetches_issued": stats.tiers.prefetches_issued,
        "prefetches_useful": stats.prefetches_useful,
        "prefetches_late": stats.prefetches_late,
        "prefetches_useless": stats.tiers.prefetches_useless,
        "prefetches_dropped": stats.prefetches_dropped,
        "updates": stats.updates,
        "write_backs": stats.tiers.write_backs,
        "write_back_errors": stats.tiers.write_back_errors,
        "write_back_error": stats.write_back_error.decode("utf-8", "replace"),
        "fast_rows": stats.fast_rows,
        "resident_rows": stats.resident_rows,
        "pinned_rows": stats.pinned_rows,
        "dirty_rows": stats.dirty_rows,
        "dram_bytes": dram,
        "huge_page_bytes": stats.huge_page_bytes,
        "index": stats.index_kind.decode(),
        "kernels": kernel_isa(),
        "slow_tier": _slow_tier_dict(stats.slow),
        "fast_placement": _placement_dict(stats.fast_placement),
        "admission": _admission_dict(stats.slow) if stats.slow.in_place else None,
        "background_cpus": list(stats.cpus),
        "latency_ns": {
            "call_hit": _latency_dict(stats.call_hit),
            "call_on_demand": _latency_dict(stats.call_on_demand),
            "row_hit": _latency_dict(stats.row_hit),
            "row_on_demand": _latency_dict(stats.row_on_demand),
        },
    }
