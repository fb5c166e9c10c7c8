# distutils: language = c++
"""Baseline prefetchers, and the simulator of a fast tier with one of them."""

from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

import numpy as np

from tieralloc._bindings.arguments cimport word_vector
from tieralloc._bindings.core.base cimport RowSpan
from tieralloc._bindings.core.eviction cimport EvictionConfig, EvictionPolicy
from tieralloc._bindings.core.sim cimport c_Simulator, statistics_of
from tieralloc._bindings.spans cimport row_span, word_span
from tieralloc._bindings.statistics cimport statistics_dict


cdef extern from "row_prefetcher.hpp" namespace "tieralloc::baselines" nogil:
    cdef enum class AccessResult "tieralloc::baselines::AccessResult":
        on_demand
        prefetched
        resident

    cdef cppclass c_RowPrefetcher "tieralloc::baselines::RowPrefetcher":
        void begin_sample()
        void observe(uint64_t row, AccessResult result, vector[uint64_t]& prefetches) except +
        void evicted(uint64_t row)
        size_t bytes()


cdef extern from "next_row.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass c_NextRow "tieralloc::baselines::NextRow"(c_RowPrefetcher):
        c_NextRow(uint32_t degree, uint64_t rows) except +


cdef extern from "co_occurrence_prefetcher.hpp" namespace "tieralloc::baselines" nogil:
    cdef struct CoOccurrenceSettings:
        uint32_t rows
        uint32_t partners
        uint32_t window
        c_bool across_samples
        double min_share
        uint32_t degree

    cdef cppclass c_CoOccurrence "tieralloc::baselines::CoOccurrencePrefetcher"(c_RowPrefetcher):
        c_CoOccurrence(const CoOccurrenceSettings& settings) except +


cdef extern from "domino.hpp" namespace "tieralloc::baselines" nogil:
    cdef struct DominoSettings:
        uint32_t degree
        uint32_t streams
        uint32_t rows
        uint32_t followers
        uint32_t history
        c_bool all_accesses

    cdef cppclass c_Domino "tieralloc::baselines::Domino"(c_RowPrefetcher):
        c_Domino(const DominoSettings& settings) except +


cdef extern from "bingo.hpp" namespace "tieralloc::baselines" nogil:
    cdef struct BingoSettings:
        uint32_t region
        uint32_t active
        uint32_t history
        uint32_t voters
        double votes

    cdef cppclass c_Bingo "tieralloc::baselines::Bingo"(c_RowPrefetcher):
        c_Bingo(const BingoSettings& settings, vector[uint32_t] table_of) except +


cdef extern from "predicted.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass c_Predicted "tieralloc::baselines::Predicted"(c_RowPrefetcher):
        c_Predicted(c_bool all_accesses)
        void append(RowSpan rows, RowSpan offsets) except +


cdef extern from "prefetching_policy.hpp" namespace "tieralloc::baselines" nogil:
    unique_ptr[EvictionPolicy] make_prefetching_policy(
        string name, const EvictionConfig& config, shared_ptr[c_RowPrefetcher] prefetcher) except +


_RESULTS = {
    "on_demand": AccessResult.on_demand,
    "prefetched": AccessResult.prefetched,
    "resident": AccessResult.resident,
}


cdef class RowPrefetcher:
    """Base class of prefetchers, which choose rows to prefetch after each access.

    The subclasses are `NextRow`, `CoOccurrence`, `Domino`, `Bingo` and `Predicted`. An object may
    be used by one thread at a time.
    """

    cdef shared_ptr[c_RowPrefetcher] _prefetcher

    cdef c_RowPrefetcher* _get(self) except NULL:
        if self._prefetcher.get() == NULL:
            raise TypeError("RowPrefetcher: abstract class; expected a subclass such as Domino")
        return self._prefetcher.get()

    def begin_sample(self):
        """Start the next sample."""
        self._get().begin_sample()

    def observe(self, uint64_t row, str result):
        """Observe an access to a row below 2**48; return the list of rows to prefetch, in order.

        `result` is "on_demand" for an on-demand fetch, "prefetched" for the first use of a
        prefetched row, "resident" for any other hit. IndexError for a row out of range, if the
        prefetcher has a number of rows.
        """
        if result not in _RESULTS:
            raise ValueError(f"result: unknown; expected one of {', '.join(_RESULTS)}, "
                             f"got {result!r}")
        cdef vector[uint64_t] prefetches
        cdef int number = _RESULTS[result]
        self._get().observe(row, <AccessResult> number, prefetches)
        return list(prefetches)

    def evicted(self, uint64_t row):
        """Observe the eviction of a row."""
        self._get().evicted(row)

    @property
    def nbytes(self):
        """Bytes of memory."""
        return self._get().bytes()


cdef class NextRow(RowPrefetcher):
    """Tagged sequential prefetching (Smith 1982): `degree` rows with the next numbers."""

    def __cinit__(self, uint64_t rows, *, uint32_t degree=1):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_NextRow(degree, rows))


cdef class CoOccurrence(RowPrefetcher):
    """Prefetches the rows most often accessed near the accessed row.

    Settings as in ``co_occurrence_prefetcher.hpp``; `least_share` is `min_share` there.
    """

    def __cinit__(self, uint32_t rows, *, uint32_t partners=16, uint32_t window=8,
                  bint across_samples=False, double least_share=0.05, uint32_t degree=8):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_CoOccurrence(CoOccurrenceSettings(
            rows=rows, partners=partners, window=window, across_samples=across_samples,
            min_share=least_share, degree=degree)))


cdef class Domino(RowPrefetcher):
    """Temporal prefetching (Domino, HPCA 2018); settings as in ``domino.hpp``."""

    def __cinit__(self, uint32_t rows, *, uint32_t degree=4, uint32_t streams=4,
                  uint32_t followers=3, uint32_t history=1 << 20, bint all_accesses=False):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Domino(DominoSettings(
            rows=rows, degree=degree, streams=streams, followers=followers, history=history,
            all_accesses=all_accesses)))


cdef class Bingo(RowPrefetcher):
    """Spatial prefetching (Bingo, HPCA 2019); settings as in ``bingo.hpp``.

    `table_of`, (rows,), is the table of each row, from 0.
    """

    def __cinit__(self, table_of, *, uint32_t region=32, uint32_t active=64,
                  uint32_t history=1 << 14, uint32_t voters=16, double votes=0.2):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Bingo(BingoSettings(
            region=region, active=active, history=history, voters=voters, votes=votes),
            word_vector(table_of)))


cdef class Predicted(RowPrefetcher):
    """Prefetches rows that were predicted before the replay, per access.

    With `all_accesses` after every access; else after on-demand fetches and first uses of
    prefetched rows.
    """

    def __cinit__(self, *, bint all_accesses):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Predicted(all_accesses))

    def append(self, const uint64_t[::1] rows not None, const uint64_t[::1] offsets not None):
        """Append the predicted rows of the next n accesses, as contiguous buffers of uint64.

        ``rows[offsets[i] : offsets[i + 1]]`` are prefetched after access ``i`` of these n.
        ValueError for offsets, (n + 1,), that do not ascend from 0 to the number of rows; nothing
        is appended then.
        """
        (<c_Predicted*> self._prefetcher.get()).append(row_span(rows), row_span(offsets))


cdef class PrefetchingSimulator:
    """Simulates a fast tier with an eviction policy and a prefetcher, which keeps its state.

    The prefetcher observes each access with its result. The rows that it chooses are prefetched
    into the same tier, unless they are resident or in flight. Other arguments and errors as of
    `Simulator`.
    """

    cdef unique_ptr[c_Simulator] _simulator
    cdef bint _running

    def __cinit__(self, str policy, uint32_t capacity, uint64_t rows,
                  RowPrefetcher prefetcher not None, *, uint64_t count_from=0, uint64_t seed=0,
                  uint64_t prefetch_lag=0):
        cdef EvictionConfig config
        config.capacity = capacity
        config.slots = capacity
        config.seed = seed
        prefetcher._get()
        cdef unique_ptr[EvictionPolicy] eviction_policy = make_prefetching_policy(
            policy.encode(), config, prefetcher._prefetcher)
        self._simulator.reset(new c_Simulator(
            move(eviction_policy), config, rows, count_from, prefetch_lag))

    def run(self, const uint64_t[::1] rows not None, sample_lengths):
        """Replay the next samples of the stream: rows, (n,), and the number of rows of each sample.

        IndexError for a row out of range, ValueError for lengths that do not add up; nothing is
        replayed then. After an IndexError for a prefetched row, the accesses before it remain
        replayed. RuntimeError if another thread runs this simulator, or for an access without
        predicted rows.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        if self._running:
            raise RuntimeError("simulator: busy; expected one thread at a time")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(row_span(rows), word_span(lengths))
        finally:
            self._running = False

    @property
    def counts(self):
        """Counts so far, as those of `tieralloc._bindings.Simulator`."""
        return statistics_dict(statistics_of(self._simulator.get().counts()))
