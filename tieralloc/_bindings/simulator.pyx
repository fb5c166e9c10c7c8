# distutils: language = c++
"""The simulator of a fast tier, and its eviction policies."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.utility cimport move

import numpy as np

from tieralloc._bindings.arguments cimport row_vector, word_array, word_vector
from tieralloc._bindings.core.eviction cimport (
    EvictionConfig,
    EvictionPolicy,
    Planner,
    c_eviction_policy_bytes,
    c_eviction_policy_names,
    make_eviction_policy,
)
from tieralloc._bindings.core.fast_tier cimport spare_slots
from tieralloc._bindings.core.policy cimport (
    LearnedOptions,
    LearnedPolicy,
    MakePolicy,
    TierTables,
    as_learned,
)
from tieralloc._bindings.core.policy cimport statistics_of as learned_statistics
from tieralloc._bindings.core.sim cimport (
    kFastIndexBytes,
    Calls,
    c_Simulator,
    statistics_of,
)
from tieralloc._bindings.planned_model cimport PlannedModel
from tieralloc._bindings.spans cimport row_span, word_span
from tieralloc._bindings.statistics cimport statistics_dict


def eviction_policy_names():
    """Names of the eviction policies, in the order of listings."""
    return [name.decode() for name in c_eviction_policy_names()]


def eviction_policy_bytes(str policy, uint32_t capacity):
    """Bytes of memory of an eviction policy for a fast tier of `capacity` rows."""
    cdef EvictionConfig config
    config.capacity = capacity
    config.slots = capacity
    config.seed = 0
    return c_eviction_policy_bytes(policy.encode(), config)


cdef class Simulator:
    """Replays accesses through an eviction policy, without the rows' bytes.

    Parameters
    ----------
    policy : str or PlannedModel
        One of `eviction_policy_names`, or a model that plans.
    capacity : int
        Rows that fit into the fast tier, at least 1.
    rows : int
        Rows are numbered 0 to ``rows - 1``.
    count_from : int
        Accesses of the whole stream before this one warm the tier and are not counted.
    seed : int
        Random seed.
    prefetch_lag : int
        Accesses during which a prefetched row is in flight.
    table_starts : (T + 1,) array of int, optional
        Table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``; None: one table.
    samples_per_call : int
        Samples per lookup call; 0: each access is a call.
    pages : (rows,) array of uint32, optional
        Page of each row in the slow tier, below `rows`, as `order.pages_of_rows` returns; a call reads
        each page once. None: each row is a page.
    max_bytes, prefetch_cost, selects
        Of a `LearnedModel`: max bytes beside the tier, 0 for a store's default; cost of a
        prefetched row, as a share of an on-demand fetch; whether simple policies may become
        active.

    Raises
    ------
    ValueError
        For an unknown policy, a capacity of 0, a model that does not fit, or pages that are not
        one per row or not below `rows`.
    """

    def __cinit__(self, policy, uint32_t capacity, uint64_t rows, *, uint64_t count_from=0,
                  uint64_t seed=0, uint64_t prefetch_lag=0, table_starts=None,
                  size_t samples_per_call=0, pages=None, size_t max_bytes=0, double prefetch_cost=0.0,
                  bint selects=True):
        cdef EvictionConfig config
        cdef TierTables tables
        cdef MakePolicy make
        cdef unique_ptr[EvictionPolicy] made
        cdef Calls calls
        cdef LearnedOptions options
        calls.samples = samples_per_call
        calls.table_starts = row_vector([0, rows] if table_starts is None else table_starts)
        config.capacity = capacity
        config.slots = capacity + spare_slots(capacity)  # as in a store's fast tier
        config.seed = seed
        if isinstance(policy, PlannedModel):
            if capacity < 1:
                raise ValueError("capacity: expected at least 1 row, got 0")
            tables.starts = calls.table_starts
            tables.numbers = word_vector(range(tables.starts.size() - 1))
            options.max_bytes = max_bytes
            options.prefetch_cost = prefetch_cost
            options.selects = selects
            options.whole_samples = samples_per_call > 0
            make = (<PlannedModel> policy)._maker(options)
            made = make(config, tables)
        else:
            made = make_eviction_policy(policy.encode(), config)
        self._policy = made.get()
        self._simulator.reset(new c_Simulator(
            move(made), config, rows, count_from, prefetch_lag, calls,
            word_vector([] if pages is None else pages), kFastIndexBytes))

    def run(self, const uint64_t[::1] accesses not None, sample_lengths=None):
        """Replay the next piece of the access stream.

        Parameters
        ----------
        accesses : (n,) contiguous buffer of uint64
            Row numbers.
        sample_lengths : (B,) array of uint32, optional
            Accesses of each sample, which add up to ``n``; without it the accesses extend the last
            sample, one at a time. The last call of a piece may have fewer samples than others.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is replayed.
        ValueError
            For lengths that do not add up, or none with `samples_per_call`; nothing is replayed.
        RuntimeError
            While another thread runs this simulator, or if a model fails.
        """
        cdef const uint32_t[::1] lengths
        if sample_lengths is not None:
            lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                if sample_lengths is None:
                    self._simulator.get().run(row_span(accesses))
                else:
                    self._simulator.get().run(row_span(accesses), word_span(lengths))
        except RuntimeError:
            PyErr_CheckSignals()  # a model's Python function may have been interrupted
            raise
        finally:
            self._running = False

    def prefetch(self, const uint64_t[::1] rows not None):
        """Prefetch the rows that are neither resident nor in flight.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is fetched.
        RuntimeError
            While another thread runs this simulator.
        """
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._simulator.get().prefetch(row_span(rows))

    @property
    def counts(self):
        """Counts so far.

        calls, lookups, hits, on_demand_fetches, evictions; prefetches_issued, _useful (used before
        they were evicted), _late (asked for while in flight), _useless (evicted unused);
        on_demand_device_reads and prefetch_device_reads (pages read).
        """
        return statistics_dict(statistics_of(self._simulator.get().counts()))

    @property
    def policy_bytes(self):
        """Bytes of memory of a model's policy; 0 for a simple policy."""
        cdef Planner* planner = self._policy.planner()
        return 0 if planner == NULL else planner.bytes()

    @property
    def policy_stats(self):
        """Statistics of a `LearnedModel` as a dict; None for other policies."""
        cdef const LearnedPolicy* learned = as_learned(self._policy)
        return None if learned == NULL else statistics_dict(learned_statistics(learned.stats()))
