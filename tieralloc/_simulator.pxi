# Eviction policies, the simulator and OPT.

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass RowSpan "std::span<const tieralloc::RowId>":
        RowSpan()
        RowSpan(const uint64_t* first, size_t count)


cdef extern from "eviction/policy.hpp" namespace "tieralloc" nogil:
    cdef cppclass EvictionPolicy:
        pass

    cdef cppclass EvictionConfig:
        uint32_t capacity
        uint32_t slots
        uint64_t seed

    vector[string] c_eviction_policy_names "tieralloc::eviction_policy_names"() except +
    unique_ptr[EvictionPolicy] make_eviction_policy(string name, EvictionConfig config) except +


cdef extern from "simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass Counts:
        uint64_t lookups
        uint64_t hits
        uint64_t on_demand_fetches
        uint64_t evictions
        uint64_t prefetches_issued
        uint64_t prefetches_useful
        uint64_t prefetches_late
        uint64_t prefetches_useless

    cdef cppclass c_Simulator "tieralloc::Simulator":
        c_Simulator(unique_ptr[EvictionPolicy] policy, uint32_t capacity, uint64_t rows,
                    uint64_t count_from, uint64_t prefetch_lag) except +
        void run(RowSpan accesses) except +
        void prefetch(RowSpan rows) except +
        const Counts& counts()


cdef extern from "belady.hpp" namespace "tieralloc" nogil:
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


cdef class Simulator:
    """Replays accesses through an eviction policy with no bytes behind it.

    Parameters
    ----------
    policy : str
        One of `eviction_policy_names`.
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

    Raises
    ------
    ValueError
        For an unknown policy, or a capacity of 0.
    """

    cdef unique_ptr[c_Simulator] _simulator
    cdef bint _running

    def __cinit__(self, str policy, uint32_t capacity, uint64_t rows, *, uint64_t count_from=0,
                  uint64_t seed=0, uint64_t prefetch_lag=0):
        cdef EvictionConfig config
        config.capacity = capacity
        config.slots = capacity
        config.seed = seed
        cdef unique_ptr[EvictionPolicy] made = make_eviction_policy(policy.encode(), config)
        self._simulator.reset(new c_Simulator(move(made), capacity, rows, count_from,
                                             prefetch_lag))

    def run(self, const uint64_t[::1] accesses not None):
        """Replay the next piece of the access stream.

        Parameters
        ----------
        accesses : (n,) contiguous buffer of uint64
            Row numbers.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is replayed.
        RuntimeError
            While another thread runs this simulator.
        """
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(_span(accesses))
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
