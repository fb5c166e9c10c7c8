# distutils: language = c++
"""Baseline prefetchers, and the core's simulator of a fast tier with one of them."""

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
from tieralloc._bindings.core.sim cimport c_Simulator
from tieralloc._bindings.spans cimport row_span, word_span
from tieralloc._bindings.statistics cimport counts_dict


cdef extern from "row_prefetcher.hpp" namespace "tieralloc::baselines" nogil:
    cdef enum class Found "tieralloc::baselines::Found":
        on_demand
        prefetched
        resident

    cdef cppclass c_RowPrefetcher "tieralloc::baselines::RowPrefetcher":
        void begin_sample()
        void observe(uint64_t row, Found found, vector[uint64_t]& prefetches) except +
        void evicted(uint64_t row)
        size_t bytes()


cdef extern from "next_row.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass c_NextRow "tieralloc::baselines::NextRow"(c_RowPrefetcher):
        c_NextRow(uint32_t degree, uint64_t rows) except +


cdef extern from "co_occurrence.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass CoOccurrenceSettings:
        uint32_t rows
        uint32_t partners
        uint32_t window
        c_bool across_samples
        double least_share
        uint32_t degree

    cdef cppclass c_CoOccurrence "tieralloc::baselines::CoOccurrence"(c_RowPrefetcher):
        c_CoOccurrence(const CoOccurrenceSettings& settings) except +


cdef extern from "domino.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass DominoSettings:
        uint32_t degree
        uint32_t streams
        uint32_t rows
        uint32_t followers
        uint32_t history
        c_bool all_accesses

    cdef cppclass c_Domino "tieralloc::baselines::Domino"(c_RowPrefetcher):
        c_Domino(const DominoSettings& settings) except +


cdef extern from "bingo.hpp" namespace "tieralloc::baselines" nogil:
    cdef cppclass BingoSettings:
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


_FOUND = {"on_demand": Found.on_demand, "prefetched": Found.prefetched, "resident": Found.resident}


cdef class RowPrefetcher:
    """Chooses rows to prefetch from what each access found. For one thread at a time.

    One of `NextRow`, `CoOccurrence`, `Domino`, `Bingo` or `Predicted`.
    """

    cdef shared_ptr[c_RowPrefetcher] _prefetcher

    cdef c_RowPrefetcher* _get(self) except NULL:
        if self._prefetcher.get() == NULL:
            raise TypeError("RowPrefetcher is abstract, expected a subclass such as Domino")
        return self._prefetcher.get()

    def begin_sample(self):
        """Start the next sample."""
        self._get().begin_sample()

    def observe(self, uint64_t row, str found):
        """Observe an access; return the rows to prefetch, in order, as a list.

        Parameters
        ----------
        row : int
            Below 2**48.
        found : str
            "on_demand" for a row that was not resident, "prefetched" for the first use of a
            prefetched row, else "resident".

        Raises
        ------
        ValueError
            For another `found`.
        """
        if found not in _FOUND:
            raise ValueError(f"found is {found!r}, expected one of {', '.join(_FOUND)}")
        cdef vector[uint64_t] prefetches
        cdef int what = _FOUND[found]
        self._get().observe(row, <Found> what, prefetches)
        return list(prefetches)

    def evicted(self, uint64_t row):
        """Observe the eviction of a row."""
        self._get().evicted(row)

    @property
    def nbytes(self):
        """Bytes of memory allocated."""
        return self._get().bytes()


cdef class NextRow(RowPrefetcher):
    """Prefetches the rows whose numbers follow (tagged sequential prefetching, Smith 1982).

    Parameters
    ----------
    rows : int
        Rows are numbered 0 to ``rows - 1``.
    degree : int
        Rows to prefetch, at least 1.

    Raises
    ------
    ValueError
        For a degree out of range.
    """

    def __cinit__(self, uint64_t rows, *, uint32_t degree=1):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_NextRow(degree, rows))


cdef class CoOccurrence(RowPrefetcher):
    """Prefetches the rows most often accessed near the accessed row.

    Parameters
    ----------
    rows : int
        Max rows remembered, at least 1; the least recently accessed is dropped.
    partners : int
        Max per row; the least counted, then least recent, is dropped.
    window : int
        Max accesses between partners.
    across_samples : bool
        Whether rows of different samples can be partners.
    least_share : float
        Min count of a prefetched partner ÷ accesses of the row, in [0, 1].
    degree : int
        Max rows prefetched per access, at least 1.

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    def __cinit__(self, uint32_t rows, *, uint32_t partners=16, uint32_t window=8,
                  bint across_samples=False, double least_share=0.05, uint32_t degree=8):
        cdef CoOccurrenceSettings settings
        settings.rows = rows
        settings.partners = partners
        settings.window = window
        settings.across_samples = across_samples
        settings.least_share = least_share
        settings.degree = degree
        self._prefetcher.reset(<c_RowPrefetcher*> new c_CoOccurrence(settings))


cdef class Domino(RowPrefetcher):
    """Replays the misses that followed the last two before (Domino, HPCA 2018).

    Parameters
    ----------
    rows : int
        Max rows in the index, at least 1; the least recently updated is dropped.
    degree : int
        Max unused rows of a stream.
    streams : int
        Max streams; the least recently used is replaced.
    followers : int
        Max per row in the index, the most recent ones.
    history : int
        Max misses kept.
    all_accesses : bool
        Whether hits are recorded as misses are.

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    def __cinit__(self, uint32_t rows, *, uint32_t degree=4, uint32_t streams=4,
                  uint32_t followers=3, uint32_t history=1 << 20, bint all_accesses=False):
        cdef DominoSettings settings
        settings.rows = rows
        settings.degree = degree
        settings.streams = streams
        settings.followers = followers
        settings.history = history
        settings.all_accesses = all_accesses
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Domino(settings))


cdef class Bingo(RowPrefetcher):
    """Prefetches the rows of a region that were used together before (Bingo, HPCA 2019).

    Parameters
    ----------
    table_of : (rows,) array of int
        The table of each row, from 0.
    region : int
        Rows of a region: a power of two, 2 to 64.
    active : int
        Max regions that accumulate a footprint; the least recently used one ends.
    history : int
        Max footprints kept; the least recently recorded is dropped.
    voters : int
        Max footprints of a short event that vote, the most recent ones.
    votes : float
        Min share of votes to prefetch a row; above 1 short events are not used.

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    def __cinit__(self, table_of, *, uint32_t region=32, uint32_t active=64,
                  uint32_t history=1 << 14, uint32_t voters=16, double votes=0.2):
        cdef BingoSettings settings
        settings.region = region
        settings.active = active
        settings.history = history
        settings.voters = voters
        settings.votes = votes
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Bingo(settings, word_vector(table_of)))


cdef class Predicted(RowPrefetcher):
    """Prefetches rows that were predicted before the replay, access by access.

    Parameters
    ----------
    all_accesses : bool
        Whether after every access; else after on-demand fetches and first uses of prefetched rows.
    """

    def __cinit__(self, *, bint all_accesses):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Predicted(all_accesses))

    def append(self, const uint64_t[::1] rows not None, const uint64_t[::1] offsets not None):
        """Append the predicted rows of the next n accesses.

        Parameters
        ----------
        rows : (m,) contiguous buffer of uint64
            Predicted rows.
        offsets : (n + 1,) contiguous buffer of uint64
            ``rows[offsets[i] : offsets[i + 1]]`` are prefetched after access ``i`` of these n.

        Raises
        ------
        ValueError
            For offsets that do not ascend from 0 to m; nothing is appended.
        """
        (<c_Predicted*> self._prefetcher.get()).append(row_span(rows), row_span(offsets))


cdef class PrefetchingSimulator:
    """Replays accesses through an eviction policy and a prefetcher with no bytes behind them.

    After each access the prefetcher gets the row and what the access found. The rows that it returns
    are prefetched into the same tier, unless they are resident or in flight.

    Parameters
    ----------
    policy, capacity, rows, count_from, seed, prefetch_lag
        As for `tieralloc._bindings.Simulator`.
    prefetcher : RowPrefetcher
        It keeps what it learned before, and learns on here.

    Raises
    ------
    ValueError
        For an unknown policy, or a capacity of 0.
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
        cdef unique_ptr[EvictionPolicy] made = make_prefetching_policy(
            policy.encode(), config, prefetcher._prefetcher)
        self._simulator.reset(new c_Simulator(move(made), config, rows, count_from,
                                             prefetch_lag))

    def run(self, const uint64_t[::1] rows not None, sample_lengths):
        """Replay the next samples of the stream.

        Parameters
        ----------
        rows : (n,) contiguous buffer of uint64
            Row numbers, sample by sample.
        sample_lengths : (samples,) array of int
            Rows of each sample, which add up to n.

        Raises
        ------
        IndexError
            For a row out of range; nothing is replayed. For a prefetched row out of range; the
            accesses until then stay replayed.
        ValueError
            For lengths that do not add up; nothing is replayed.
        RuntimeError
            While another thread runs this simulator, or for an access without predicted rows.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(row_span(rows), word_span(lengths))
        finally:
            self._running = False

    @property
    def counts(self):
        """Counts so far, as those of `tieralloc._bindings.Simulator`."""
        return counts_dict(self._simulator.get().counts())
