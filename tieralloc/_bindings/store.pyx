# distutils: language = c++
"""The calls of a store that serve: argument checks, buffers borrowed, the GIL released, errors translated."""

import os

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

from tieralloc._bindings.arguments cimport (
    accesses_of,
    dtype_of,
    durability_of,
    file_mode_of,
    promotion_of,
    residency_of,
)
from tieralloc._bindings.buffers cimport Buffer, IntegerBuffer, rows_buffer
from tieralloc._bindings.checkpoint cimport Checkpoint
from tieralloc._bindings.core.base cimport DType, Statistics, byte
from tieralloc._bindings.core.policy cimport LearnedOptions
from tieralloc._bindings.core.slow_tier cimport (
    CheckpointOptions,
    CheckpointPool,
    FileMode,
    FilePool,
    FilePoolOptions,
    JoinedPool,
    MemoryPool,
    MemoryPoolOptions,
    Residency,
    SlowPool,
    c_RowOrder,
    milliseconds,
    open_file_pool,
)
from tieralloc._bindings.core.store cimport (
    Accesses,
    BagCall,
    CallSpan,
    PlannedPolicy,
    StoreOptions,
    c_Store,
    c_Table,
    statistics_of,
)
from tieralloc._bindings.pending_call cimport PendingCall
from tieralloc._bindings.planned_model cimport PlannedModel
from tieralloc._bindings.request cimport Request, make_request
from tieralloc._bindings.row_order cimport RowOrder
from tieralloc._bindings.statistics cimport statistics_dict
from tieralloc._bindings.store_base cimport StoreBase


cdef class Store(StoreBase):
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
    checkpoint : Checkpoint or None
        Files that others wrote as the slow tier.
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

    def __cinit__(self, bytes path, *, str mode not None, memory, Checkpoint checkpoint,
                  uint64_t fast_bytes, uint64_t fast_rows, str policy not None,
                  str engine not None, bint direct, bint reserve, unsigned queue_depth,
                  str durability not None, double write_back_interval, unsigned prefetch_threads,
                  fast_node, cpus, str promotion not None):
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
        cdef CheckpointOptions checkpoint_options
        cdef unique_ptr[FilePool] file
        cdef unique_ptr[CheckpointPool] files
        cdef unique_ptr[SlowPool] pool
        cdef bint is_new = False
        cdef bint in_memory = memory is not None
        cdef bint in_place = checkpoint is not None
        if in_memory:
            memory_options.request.node = memory[0]
            memory_options.request.prefer = memory[1]
            memory_options.request.strict = memory[2]
            memory_options.extra_ns = memory[3]
            memory_options.overlap = memory[4]
            options.budget.in_place = True
        if in_place:
            checkpoint_options.name = checkpoint._name
            checkpoint_options.overlay = checkpoint._overlay
            checkpoint_options.engine = pool_options.engine
            checkpoint_options.direct = direct
            checkpoint_options.queue_depth = queue_depth
        options.budget.none = fast_bytes == 0 and fast_rows == 0
        with nogil:
            c_Store.check(options)  # before a file is created
            if in_memory:
                pool.reset(new MemoryPool(memory_options))
            elif in_place:
                files.reset(new CheckpointPool(checkpoint._files, checkpoint._tables,
                                               checkpoint_options))
                if checkpoint._joined.empty():
                    pool.reset(files.release())
                else:
                    pool.reset(new JoinedPool(move(files), checkpoint._joined))
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

    def create_table(self, str name not None, uint64_t rows, uint32_t dim, str dtype,
                     resident, RowOrder order):
        """Create a table of zeros; return its position among the store's tables."""
        cdef string c_name = name.encode()
        cdef DType c_dtype = dtype_of(dtype)
        cdef Residency residency = residency_of(resident)
        cdef shared_ptr[const c_RowOrder] c_order
        if order is not None:
            c_order = order._order
        with nogil:
            self._store.get().create_table(c_name, rows, dim, c_dtype, residency, c_order)
        self._tables = self._store.get().tables()
        return <Py_ssize_t>self._tables.size() - 1

    def lookup(self, Py_ssize_t position, indices, out, bint raw, str bounds):
        """Copy rows; return the array and the number of indices out of range."""
        cdef Request request = make_request(self._tables, (position,), None, indices, None, False,
                                            "copy", None, bounds)
        if raw:
            request.set_raw()
        return self._serve(request, out)

    def embedding_bag(self, positions, paddings, indices, offsets, bint include_last_offset,
                      str mode, per_sample_weights, out, str bounds):
        """Pool bags of rows of one table or several; return as `lookup` does."""
        cdef Request request = make_request(self._tables, positions, paddings, indices, offsets,
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
            request = make_request(self._tables, positions, paddings, indices, offsets, last, mode,
                                   weights, bounds)
            if c_accesses != Accesses.only_recorded:
                request.take_output(out)
            kept.append(request)
            calls.push_back(request.call)
        cdef CallSpan span = CallSpan(calls.data(), calls.size())
        cdef uint64_t outside
        with nogil:
            outside = self._store.get().embedding_bags(span, c_accesses)
        return outside

    cdef _serve(self, Request request, out):
        request.take_output(out)
        cdef uint64_t outside
        with nogil:
            outside = self._store.get().embedding_bag(request.call)
        return request.place.array, outside

    def lookup_async(self, Py_ssize_t position, indices, out, bint raw, str bounds):
        """As `lookup`, in the background; the arguments must not change meanwhile."""
        cdef Request request = make_request(self._tables, (position,), None, indices, None, False,
                                            "copy", None, bounds)
        if raw:
            request.set_raw()
        return self._submit(request, out)

    def embedding_bag_async(self, positions, paddings, indices, offsets, bint include_last_offset,
                            str mode, per_sample_weights, out, str bounds):
        """As `embedding_bag`, in the background; the arguments must not change meanwhile."""
        cdef Request request = make_request(self._tables, positions, paddings, indices, offsets,
                                            include_last_offset, mode, per_sample_weights, bounds)
        return self._submit(request, out)

    cdef _submit(self, Request request, out):
        cdef PendingCall pending = PendingCall.__new__(PendingCall)
        request.take_output(out)
        pending._request = request
        with nogil:
            pending._lookup = self._store.get().submit(request.call)
        return pending

    def update(self, Py_ssize_t position, indices, values, bint in_bulk=False):
        """Set rows to new values; `in_bulk` as `load` does, each row once."""
        cdef const c_Table* table = self._table(position)
        cdef IntegerBuffer ints = IntegerBuffer()
        ints.take(indices, "indices")
        cdef bint floats
        cdef Buffer lent = rows_buffer(values, table, <Py_ssize_t>ints.integers.size, &floats)
        with nogil:
            if floats:
                self._store.get().update_floats(table[0], ints.integers,
                                                <const float*>lent.view.buf, in_bulk)
            else:
                self._store.get().update(table[0], ints.integers, <const byte*>lent.view.buf,
                                         in_bulk)

    def prefetch(self, positions, indices, offsets, bint include_last_offset, str bounds):
        """Queue rows to be prefetched; return the number of queued rows."""
        cdef Request request = make_request(self._tables, positions, None, indices, offsets,
                                            include_last_offset, None, None, bounds,
                                            has_result=False)
        cdef uint64_t queued
        with nogil:
            queued = self._store.get().prefetch(request.call)
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
