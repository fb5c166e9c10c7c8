# Eviction policies, the simulator and OPT.

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass RowSpan "std::span<const tieralloc::RowId>":
        RowSpan()
        RowSpan(const uint64_t* first, size_t count)


cdef extern from "eviction/planner.hpp" namespace "tieralloc" nogil:
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


cdef extern from "sim/simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass Counts:
        uint64_t lookups
        uint64_t hits
        uint64_t on_demand_fetches
        uint64_t evictions
        uint64_t prefetches_issued
        uint64_t prefetches_useful
        uint64_t prefetches_late
        uint64_t prefetches_useless

    cdef cppclass Calls:
        size_t samples
        vector[uint64_t] table_starts

    cdef cppclass c_Simulator "tieralloc::Simulator":
        c_Simulator(unique_ptr[EvictionPolicy] policy, const EvictionConfig& config, uint64_t rows,
                    uint64_t count_from, uint64_t prefetch_lag, Calls calls) except +
        void run(RowSpan accesses) except +
        void run(RowSpan accesses, WordSpan sample_lengths) except +
        void prefetch(RowSpan rows) except +
        const Counts& counts()


cdef extern from "fast_tier/fast_tier.hpp" namespace "tieralloc" nogil:
    uint32_t spare_slots(uint32_t capacity)


cdef extern from "sim/belady.hpp" namespace "tieralloc" nogil:
    Counts c_belady "tieralloc::belady"(RowSpan accesses, uint64_t rows, uint32_t capacity,
                                        uint64_t count_from) except +


@cython.boundscheck(False)
cdef RowSpan _span(const uint64_t[::1] rows) noexcept nogil:
    if rows.shape[0] == 0:
        return RowSpan()
    return RowSpan(&rows[0], rows.shape[0])


cdef _counts_dict(const Counts& counts):
    return {
        "lookups": counts.lookups,
        "hits": counts.hits,
        "on_demand_fetches": counts.on_demand_fetches,
        "evictions": counts.evictions,
        "prefetches_issued": counts.prefetches_issued,
        "prefetches_useful": counts.prefetches_useful,
        "prefetches_late": counts.prefetches_late,
        "prefetches_useless": counts.prefetches_useless,
    }


def eviction_policy_names():
    """Names of the eviction policies, in the order they are listed to users."""
    return [name.decode() for name in c_eviction_policy_names()]


def eviction_policy_bytes(str policy, uint32_t capacity):
    """Bytes of memory that an eviction policy takes for a fast tier of so many rows.

    Raises
    ------
    ValueError
        For an unknown policy.
    """
    cdef EvictionConfig config
    config.capacity = capacity
    config.slots = capacity
    config.seed = 0
    return c_eviction_policy_bytes(policy.encode(), config)


cdef class Simulator:
    """Replays accesses through an eviction policy with no bytes behind it.

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
        For policies that draw at random.
    prefetch_lag : int
        Accesses for which a prefetched row is in flight.
    table_starts : (T + 1,) array of int, optional
        Table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``; none: there is one.
    samples_per_call : int
        How many samples a call looks up; 0: one access is looked up at a time.
    max_bytes, prefetch_cost, selects
        Of a `LearnedModel`: bytes that it may take beside the tier, 0 for as many as a store gives it; what
        a prefetched row costs, as a share of an on-demand fetch; whether simple policies may become
        active.

    Raises
    ------
    ValueError
        For an unknown policy, a capacity of 0, or a model that does not fit.
    """

    cdef unique_ptr[c_Simulator] _simulator
    cdef EvictionPolicy* _policy
    cdef bint _running

    def __cinit__(self, policy, uint32_t capacity, uint64_t rows, *, uint64_t count_from=0,
                  uint64_t seed=0, uint64_t prefetch_lag=0, table_starts=None,
                  size_t samples_per_call=0, size_t max_bytes=0, double prefetch_cost=0.0,
                  bint selects=True):
        cdef EvictionConfig config
        cdef TierTables tables
        cdef MakePolicy make
        cdef unique_ptr[EvictionPolicy] made
        cdef Calls calls
        cdef LearnedOptions options
        calls.samples = samples_per_call
        calls.table_starts = _row_vector([0, rows] if table_starts is None else table_starts)
        config.capacity = capacity
        config.slots = capacity + spare_slots(capacity)  # as a store's fast tier has them
        config.seed = seed
        if isinstance(policy, PlannedModel):
            if capacity < 1:
                raise ValueError("capacity: expected at least 1 row, got 0")
            tables.starts = calls.table_starts
            tables.numbers = _word_vector(range(tables.starts.size() - 1))
            options.max_bytes = max_bytes
            options.prefetch_cost = prefetch_cost
            options.selects = selects
            options.whole_samples = samples_per_call > 0
            make = (<PlannedModel> policy)._maker(options)
            made = make(config, tables)
        else:
            made = make_eviction_policy(policy.encode(), config)
        self._policy = made.get()
        self._simulator.reset(new c_Simulator(move(made), config, rows, count_from,
                                             prefetch_lag, calls))

    def run(self, const uint64_t[::1] accesses not None, sample_lengths=None):
        """Replay the next piece of the access stream.

        Parameters
        ----------
        accesses : (n,) contiguous buffer of uint64
            Row numbers.
        sample_lengths : (B,) array of uint32, optional
            Accesses of each sample, which add up to ``n``; without it the last sample goes on, one
            access at a time. The last call of a piece may have fewer samples than others.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is replayed.
        ValueError
            For lengths that do not add up, or none with `samples_per_call`; nothing is replayed.
        RuntimeError
            While another thread runs this simulator, or where a model fails.
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
                    self._simulator.get().run(_span(accesses))
                else:
                    self._simulator.get().run(_span(accesses), _words(lengths))
        except RuntimeError:
            PyErr_CheckSignals()  # a model's Python function may have been interrupted
            raise
        finally:
            self._running = False

    def prefetch(self, const uint64_t[::1] rows not None):
        """Fetch ahead those of some rows that are neither resident nor in flight.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is fetched.
        RuntimeError
            While another thread runs this simulator.
        """
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._simulator.get().prefetch(_span(rows))

    @property
    def counts(self):
        """Counts so far.

        lookups, hits, on_demand_fetches, evictions, and prefetches_issued, _useful (used before
        they were evicted), _late (asked for while in flight), _useless (evicted unused).
        """
        return _counts_dict(self._simulator.get().counts())

    @property
    def policy_bytes(self):
        """Bytes of memory that a model's policy takes; 0 for a simple policy."""
        cdef Planner* planner = self._policy.planner()
        return 0 if planner == NULL else planner.bytes()

    @property
    def policy_stats(self):
        """What a `LearnedModel` did, as a dict; None for other policies."""
        cdef const LearnedPolicy* learned = as_learned(self._policy)
        return None if learned == NULL else _learned_dict(learned.stats())


def belady(const uint64_t[::1] accesses not None, uint64_t rows, uint32_t capacity, *,
           uint64_t count_from=0):
    """Count what Belady's optimal replacement would, every missed row being inserted.

    Parameters
    ----------
    accesses : (n,) contiguous buffer of uint64
        Row numbers, 0 to ``rows - 1``; the whole stream.
    rows, capacity, count_from : int
        As for `Simulator`.

    Returns
    -------
    dict
        As the counts of `Simulator`; of prefetches there are none.

    Raises
    ------
    IndexError
        For a row not below `rows`.
    ValueError
        For a capacity of 0.
    """
    cdef Counts counts
    with nogil:
        counts = c_belady(_span(accesses), rows, capacity, count_from)
    return _counts_dict(counts)
