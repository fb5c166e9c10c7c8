# distutils: language = c++
"""The store: argument checks, buffers borrowed, the GIL released, errors translated."""

import os

import numpy as np

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

from tieralloc._bindings.arguments cimport (
    accesses_of,
    bounds_of,
    dtype_name,
    dtype_of,
    durability_of,
    file_mode_of,
    mode_of,
    promotion_of,
    residency_of,
    row_array,
    word_array,
)
from tieralloc._bindings.buffers cimport (
    Buffer,
    IntegerBuffer,
    OutputBuffer,
    rows_buffer,
    weights_buffer,
)
from tieralloc._bindings.core.base cimport DType, Statistics, byte, size_of
from tieralloc._bindings.core.kernels cimport Mode
from tieralloc._bindings.core.policy cimport LearnedOptions
from tieralloc._bindings.core.slow_tier cimport (
    FileMode,
    FilePool,
    FilePoolOptions,
    MemoryPool,
    MemoryPoolOptions,
    Residency,
    SlowPool,
    milliseconds,
    open_file_pool,
)
from tieralloc._bindings.core.store cimport (
    Accesses,
    AccessSamples,
    BagCall,
    CallSpan,
    SegmentSpan,
    PlannedPolicy,
    StoreOptions,
    StoreRow,
    StoreRowSpan,
    c_Store,
    c_Table,
    c_TableSegment,
    statistics_of,
)
from tieralloc._bindings.planned_model cimport PlannedModel
from tieralloc._bindings.statistics cimport statistics_dict


cdef class Request:
    """A call, with the arrays that it borrows."""

    def __cinit__(self):
        self.indices = IntegerBuffer()
        self.offsets = IntegerBuffer()
        self.place = OutputBuffer()

    cdef int take_output(self, out) except -1:
        cdef Py_ssize_t columns = 0
        cdef c_TableSegment segment
        for segment in self.segments:
            columns += segment.table.layout.dim
        self.place.take(out, <Py_ssize_t>self.call.bags, columns, self.dtype,
                        size_of(self.dtype) == 2)
        self.call.out = <byte*>self.place.lent.view.buf
        self.call.out_stride = self.place.stride
        self.call.out_dtype = self.place.dtype
        return 0


cdef class Store:
    """The C++ store of a `tieralloc.TieredStore`.

    Parameters
    ----------
    path : bytes or None
        The slow tier's file.
    mode : {"r", "r+", "a", "w"}
        As of `tieralloc.File`.
    memory : tuple of (int, bool, bool, float, int) or None
        Memory as the slow tier, in place of a file: its node (-1: any), whether the node is only
        preferred, whether a refusal of the kernel to bind memory is an error, extra latency per
        cache line in ns, and lines whose latencies overlap.
    fast_bytes, fast_rows : int
        One of them above 0; with `memory` both may be 0: no fast tier.
    policy : str
        One of `eviction_policy_names`.
    engine : str
        "auto" or one of `fetch_engines`.
    direct, reserve : bool
        Bypass the page cache; reserve disk blocks when a table is created.
    durability : str
        When updates are durable: "none", "flush" or "commit".
    write_back_interval : float
        Max seconds until an update is durable without a flush.
    queue_depth, prefetch_threads : int
        Max in-flight reads, prefetch threads.
    fast_node : tuple of (int, bool, bool)
        Node of the fast tier's memory, as the first three of `memory`.
    cpus : sequence of int
        Processors of background threads; none: those of the slow tier's node, or any.
    promotion : str
        "auto", "always" or "never".
    """

    def __cinit__(self, bytes path, *, str mode not None, memory, uint64_t fast_bytes,
                  uint64_t fast_rows, str policy not None, str engine not None, bint direct,
                  bint reserve, unsigned queue_depth, str durability not None,
                  double write_back_interval, unsigned prefetch_threads, fast_node, cpus,
                  str promotion not None):
        cdef FileMode file_mode = file_mode_of(mode)
        cdef FilePoolOptions pool_options
        pool_options.engine = engine.encode()
        pool_options.direct = direct
        pool_options.reserve = reserve
        pool_options.queue_depth = queue_depth
        pool_options.durability = durability_of(durability)
        pool_options.sync_interval = milliseconds(<long long>(write_back_interval * 1e3))
        cdef StoreOptions options
        options.budget.bytes = fast_bytes
        options.budget.rows = fast_rows
        options.policy = policy.encode()
        options.prefetch_threads = prefetch_threads
        options.fast_node.node, options.fast_node.prefer, options.fast_node.strict = fast_node
        options.promotion = promotion_of(promotion)
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
            c_Store.check(options)  # before a file is created
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
        # A forked child lacks the store's threads: there the store cannot be destroyed.
        if store != NULL and store.belongs_here():
            with nogil:
                del store

    cdef const c_Table* _table(self, Py_ssize_t position) except NULL:
        if not 0 <= position < <Py_ssize_t>self._tables.size():
            raise IndexError(f"table {position} of {self._tables.size()}")
        return self._tables[position]

    def create_table(self, str name not None, uint64_t rows, uint32_t dim, str dtype,
                     resident):
        """Create a table of zeros; return its position among the store's tables."""
        cdef string c_name = name.encode()
        cdef DType c_dtype = dtype_of(dtype)
        cdef Residency residency = residency_of(resident)
        with nogil:
            self._store.get().create_table(c_name, rows, dim, c_dtype, residency)
        self._tables = self._store.get().tables()
        return <Py_ssize_t>self._tables.size() - 1

    def tables(self):
        """Name, rows, dim and dtype of each table, in order of creation."""
        cdef const c_Table* table
        found = []
        for table in self._tables:
            found.append((table.layout.name.decode(), table.layout.rows, table.layout.dim,
                          dtype_name(table.layout.dtype)))
        return found

    def load(self, Py_ssize_t position, uint64_t first, values):
        """Write rows from `first` on to the slow tier only; return their number."""
        cdef const c_Table* table = self._table(position)
        cdef Buffer lent = rows_buffer(values, table, -1)
        cdef uint64_t rows = <uint64_t>lent.view.shape[0]
        with nogil:
            self._store.get().load(table[0], first, rows, <const byte*>lent.view.buf)
        return rows

    def is_resident(self, Py_ssize_t position):
        """Whether a table lies in DRAM as a whole."""
        cdef const c_Table* table = self._table(position)
        cdef bint resident
        with nogil:
            resident = self._store.get().is_resident(table[0])
        return bool(resident)

    def pages(self, Py_ssize_t position):
        """Number of pages of a table, rows per page, and whether the pages have checksums."""
        cdef const c_Table* table = self._table(position)
        return (table.layout.pages.num_pages(table.layout.rows), table.layout.pages.rows_per_page,
                bool(table.layout.pages.has_footer))

    def damaged_pages(self, Py_ssize_t position, uint64_t first, uint64_t n):
        """Read and check `n` pages of a table; return the numbers of damaged ones."""
        cdef const c_Table* table = self._table(position)
        cdef vector[uint64_t] pages
        with nogil:
            pages = self._store.get().damaged_pages(table[0], first, n)
        return list(pages)

    def settle(self):
        """Return when the loads are durable."""
        with nogil:
            self._store.get().settle()

    def lookup(self, Py_ssize_t position, indices, out, str bounds):
        """Copy rows; return the array and the number of indices out of range."""
        cdef Request request = self._request((position,), None, indices, None, False, "copy", None,
                                             bounds)
        return self._serve(request, out)

    def embedding_bag(self, positions, paddings, indices, offsets, bint include_last_offset,
                      str mode, per_sample_weights, out, str bounds):
        """Pool bags of rows of one table or several; return as `lookup` does."""
        cdef Request request = self._request(positions, paddings, indices, offsets,
                                             include_last_offset, mode, per_sample_weights, bounds)
        return self._serve(request, out)

    def embedding_bags(self, requests, str bounds, str accesses):
        """Serve calls as one, or only record their accesses.

        `requests` has the arguments of `embedding_bag` for each call, from `positions` to `out`;
        rows are copied where offsets are None. `accesses` is "recorded", "unrecorded" or
        "only_recorded"; calls of equally many bags share their samples. Returns the number of
        indices out of range.
        """
        cdef Accesses c_accesses = accesses_of(accesses)
        cdef vector[BagCall] calls
        cdef Request request
        kept = []
        for positions, paddings, indices, offsets, last, mode, weights, out in requests:
            request = self._request(positions, paddings, indices, offsets, last, mode, weights,
                                    bounds)
            if c_accesses != Accesses.only_recorded:
                request.take_output(out)
            kept.append(request)
            calls.push_back(request.call)
        cdef CallSpan span = CallSpan(calls.data(), calls.size())
        cdef uint64_t outside
        with nogil:
            outside = self._store.get().embedding_bags(span, c_accesses)
        return outside

    cdef Request _request(self, positions, paddings, indices, offsets, bint include_last_offset,
                          str mode, per_sample_weights, str bounds):
        cdef Request request = Request()
        cdef BagCall* call = &request.call
        request.dtype = self._segments(positions, paddings, request.segments)
        call.segments = SegmentSpan(request.segments.data(), request.segments.size())
        request.indices.take(indices, "indices")
        call.indices = request.indices.integers
        if offsets is None:
            call.mode = Mode.copy
            call.bags = call.indices.size
        else:
            request.offsets.take(offsets, "offsets")
            call.offsets = request.offsets.integers
            call.bags = _bags_of(call.offsets.size, request.segments.size(), include_last_offset)
            call.mode = mode_of(mode)
            request.weights = weights_buffer(per_sample_weights, call.indices.size, request.dtype,
                                             mode)
            if request.weights is not None:
                call.weights = request.weights.view.buf
        call.bounds = bounds_of(bounds)
        return request

    cdef DType _segments(self, positions, paddings, vector[c_TableSegment]& segments) except *:
        """Append the tables to `segments`; return the type of a result that holds all of them."""
        cdef c_TableSegment segment
        cdef DType dtype = DType.float32
        for i, position in enumerate(positions):
            segment.table = self._table(position)
            segment.padding = -1 if paddings is None else paddings[i]
            segments.push_back(segment)
            if i == 0:
                dtype = segment.table.layout.dtype
            elif segment.table.layout.dtype != dtype:
                if dtype == DType.float64 or segment.table.layout.dtype == DType.float64:
                    raise TypeError("tables of float64 and of narrower types have no common "
                                    "result; expected one kind in a call")
                dtype = DType.float32
        if segments.empty():
            raise ValueError("expected at least one table, got none")
        return dtype

    cdef _serve(self, Request request, out):
        request.take_output(out)
        cdef uint64_t outside
        with nogil:
            outside = self._store.get().embedding_bag(request.call)
        return request.place.array, outside

    def update(self, Py_ssize_t position, indices, values):
        """Set rows to new values."""
        cdef const c_Table* table = self._table(position)
        cdef IntegerBuffer ints = IntegerBuffer()
        ints.take(indices, "indices")
        cdef Buffer lent = rows_buffer(values, table, <Py_ssize_t>ints.integers.size)
        with nogil:
            self._store.get().update(table[0], ints.integers, <const byte*>lent.view.buf)

    def prefetch(self, positions, indices, offsets, bint include_last_offset, str bounds):
        """Queue rows to be prefetched; return the number of queued rows."""
        cdef vector[c_TableSegment] segments
        self._segments(positions, None, segments)
        cdef BagCall call
        cdef IntegerBuffer ints = IntegerBuffer()
        cdef IntegerBuffer ends = IntegerBuffer()
        ints.take(indices, "indices")
        call.indices = ints.integers
        call.bags = ints.integers.size
        if offsets is not None:
            ends.take(offsets, "offsets")
            call.offsets = ends.integers
            call.bags = _bags_of(ends.integers.size, segments.size(), include_last_offset)
        call.segments = SegmentSpan(segments.data(), segments.size())
        call.bounds = bounds_of(bounds)
        cdef uint64_t queued
        with nogil:
            queued = self._store.get().prefetch(call)
        return queued

    def pin(self, Py_ssize_t position, indices):
        """Make rows resident until they are unpinned."""
        cdef const c_Table* table = self._table(position)
        cdef IntegerBuffer ints = IntegerBuffer()
        ints.take(indices, "indices")
        with nogil:
            self._store.get().pin(table[0], ints.integers)

    def unpin(self, Py_ssize_t position, indices):
        """Let the policy evict rows again."""
        cdef const c_Table* table = self._table(position)
        cdef IntegerBuffer ints = IntegerBuffer()
        ints.take(indices, "indices")
        with nogil:
            self._store.get().unpin(table[0], ints.integers)

    @property
    def records(self):
        """Whether a recorder or a policy gets the accesses of lookups."""
        return self._store.get().records()

    def record_accesses(self, size_t capacity):
        """Record accesses in a ring of `capacity` words per thread; 0 stops recording.

        Returns the accesses recorded before, as `drain_accesses` does.
        """
        cdef AccessSamples samples
        with nogil:
            samples = self._store.get().record_accesses(capacity)
        return row_array(samples.rows), word_array(samples.lengths), samples.dropped

    def drain_accesses(self):
        """Take the recorded accesses, sample by sample.

        Returns rows, uint64; the lengths of samples, uint32; and the accesses dropped since the
        store was opened.
        """
        cdef AccessSamples samples
        with nogil:
            samples = self._store.get().drain_accesses()
        return row_array(samples.rows), word_array(samples.lengths), samples.dropped

    def capacities(self):
        """Rows of each fast tier."""
        cdef vector[uint64_t] capacities
        with nogil:
            capacities = self._store.get().capacities()
        return list(capacities)

    def use_policy(self, str name not None):
        """Evict rows by a simple policy."""
        cdef string c_name = name.encode()
        with nogil:
            self._store.get().use_policy(c_name)

    def use_planned(self, PlannedModel model not None, str simple not None, *, bint pauses,
                    bint in_background, size_t max_bytes, double prefetch_cost, bint selects):
        """Evict rows by a model; by a simple policy while it pauses or after it failed."""
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
        """Run one step of a model that is not in the background; return the observed accesses."""
        cdef size_t observed
        with nogil:
            observed = self._store.get().step_policy()
        return observed

    def policy_stats(self):
        """Statistics of the model; their state is empty while a simple policy evicts."""
        cdef Statistics statistics
        with nogil:
            statistics = statistics_of(self._store.get().policy_stats())
        return statistics_dict(statistics)

    def flush(self):
        """Write back all earlier updates; return when they are durable."""
        with nogil:
            self._store.get().flush()

    def close(self, bint lists_resident=False):
        """Flush and close; closing twice does nothing.

        Returns None, or the resident rows as `resident_rows` does, the next victim first.
        """
        cdef vector[StoreRow] rows
        with nogil:
            self._store.get().close(&rows if lists_resident else NULL)
        return _array_of(rows) if lists_resident else None

    def warm_up(self, const uint64_t[::1] rows not None):
        """Bring store rows into free slots, in this eviction order; return the rows read."""
        cdef StoreRowSpan span
        cdef uint64_t read
        if rows.shape[0] > 0:
            span = StoreRowSpan(<const StoreRow*>&rows[0], <size_t>rows.shape[0])
        with nogil:
            read = self._store.get().warm_up(span)
        return read

    def resident_rows(self):
        """Store rows with a copy in the fast tier, uint64, in no order."""
        cdef vector[StoreRow] rows
        with nogil:
            rows = self._store.get().resident_rows()
        return _array_of(rows)

    @property
    def store_id(self):
        """The random id of the file; 0 if it has none."""
        return self._store.get().store_id()

    @property
    def closed(self):
        """Whether `close` has ended the store."""
        return self._store.get().closed()

    @property
    def belongs_here(self):
        """False in a forked child of the process that made the store."""
        return self._store.get().belongs_here()

    def reset_stats(self):
        """Reset all counters and histograms."""
        with nogil:
            self._store.get().reset_stats()

    def stats(self):
        """Statistics as `tieralloc.stats.StoreStats` documents them, without the policy."""
        cdef Statistics statistics
        with nogil:
            statistics = statistics_of(self._store.get().stats())
        return statistics_dict(statistics)


cdef object _array_of(const vector[StoreRow]& rows):
    array = np.empty(rows.size(), dtype=np.uint64)
    cdef uint64_t[::1] view = array
    if rows.size() > 0:
        memcpy(&view[0], rows.data(), rows.size() * sizeof(StoreRow))
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
