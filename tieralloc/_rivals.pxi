# Prefetchers that see accesses one by one, and the simulator of a fast tier that they fill.

from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.utility cimport move
from libcpp.vector cimport vector

import numpy as np


cdef extern from "rivals/row_prefetcher.hpp" namespace "tieralloc" nogil:
    cdef enum class Found "tieralloc::Found":
        on_demand
        prefetched
        resident

    cdef cppclass c_RowPrefetcher "tieralloc::RowPrefetcher":
        void begin_sample()
        void observe(uint64_t row, Found found, vector[uint64_t]& ahead) except +
        void evicted(uint64_t row)
        size_t bytes()


cdef extern from "rivals/next_row.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_NextRow "tieralloc::NextRow"(c_RowPrefetcher):
        c_NextRow(uint32_t degree, uint64_t rows) except +


cdef extern from "rivals/co_occurrence.hpp" namespace "tieralloc" nogil:
    cdef cppclass CoOccurrenceSettings:
        uint32_t rows
        uint32_t partners
        uint32_t window
        c_bool across_samples
        double least_share
        uint32_t degree

    cdef cppclass c_CoOccurrence "tieralloc::CoOccurrence"(c_RowPrefetcher):
        c_CoOccurrence(const CoOccurrenceSettings& settings) except +


cdef extern from "rivals/domino.hpp" namespace "tieralloc" nogil:
    cdef cppclass DominoSettings:
        uint32_t degree
        uint32_t streams
        uint32_t rows
        uint32_t followers
        uint32_t history
        c_bool all_accesses

    cdef cppclass c_Domino "tieralloc::Domino"(c_RowPrefetcher):
        c_Domino(const DominoSettings& settings) except +


cdef extern from "rivals/bingo.hpp" namespace "tieralloc" nogil:
    cdef cppclass BingoSettings:
        uint32_t region
        uint32_t active
        uint32_t history
        uint32_t voters
        double votes

    cdef cppclass c_Bingo "tieralloc::Bingo"(c_RowPrefetcher):
        c_Bingo(const BingoSettings& settings, vector[uint32_t] table_of) except +


cdef extern from "rivals/foretold.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_Foretold "tieralloc::Foretold"(c_RowPrefetcher):
        c_Foretold(c_bool all_accesses)
        void tell(RowSpan rows, RowSpan offsets) except +


cdef extern from "rivals/prefetching_simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_PrefetchingSimulator "tieralloc::PrefetchingSimulator":
        c_PrefetchingSimulator(unique_ptr[EvictionPolicy] policy, uint32_t capacity, uint64_t rows,
                               uint64_t count_from, uint64_t prefetch_lag,
                               shared_ptr[c_RowPrefetcher] prefetcher) except +
        void run(RowSpan rows, WordSpan sample_lengths) except +
        const Counts& counts()


cdef extern from "eviction/policy.hpp" namespace "tieralloc" nogil:
    size_t c_eviction_policy_bytes "tieralloc::eviction_policy_bytes"(
        string name, const EvictionConfig& config) except +


_FOUND = {"on_demand": Found.on_demand, "prefetched": Found.prefetched, "resident": Found.resident}


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


cdef class RowPrefetcher:
    """Chooses rows to fetch ahead from what each access found. For one thread at a time.

    One of `NextRow`, `CoOccurrence`, `Domino`, `Bingo` or `Foretold`.
    """

    cdef shared_ptr[c_RowPrefetcher] _prefetcher

    cdef c_RowPrefetcher* _get(self) except NULL:
        if self._prefetcher.get() == NULL:
            raise TypeError("a RowPrefetcher is made as one of its kinds, such as Domino")
        return self._prefetcher.get()

    def begin_sample(self):
        """Take the next accesses to be of another sample."""
        self._get().begin_sample()

    def observe(self, uint64_t row, str found):
        """Take note of an access; return the rows to fetch, the first first, as a list.

        Parameters
        ----------
        row : int
            Below 2**48.
        found : str
            "on_demand" where the row was not there, "prefetched" where it was and awaited its first
            use, else "resident".

        Raises
        ------
        ValueError
            For another word.
        """
        if found not in _FOUND:
            raise ValueError(f"found is {found!r}, expected one of {', '.join(_FOUND)}")
        cdef vector[uint64_t] ahead
        cdef int what = _FOUND[found]
        self._get().observe(row, <Found> what, ahead)
        return list(ahead)

    def evicted(self, uint64_t row):
        """Take note that a row left the fast tier."""
        self._get().evicted(row)

    @property
    def nbytes(self):
        """Bytes of memory taken."""
        return self._get().bytes()


cdef class NextRow(RowPrefetcher):
    """Fetches the rows whose numbers follow (tagged sequential prefetching, Smith 1982).

    Parameters
    ----------
    rows : int
        Rows are numbered 0 to ``rows - 1``.
    degree : int
        Rows to fetch, at least 1.

    Raises
    ------
    ValueError
        For a degree out of range.
    """

    def __cinit__(self, uint64_t rows, *, uint32_t degree=1):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_NextRow(degree, rows))


cdef class CoOccurrence(RowPrefetcher):
    """Fetches the rows most often accessed near the row accessed now.

    Parameters
    ----------
    rows : int
        Rows to remember, at least 1; the one accessed longest ago is forgotten.
    partners : int
        Of each; of those counted least, the one seen longest ago leaves.
    window : int
        Accesses apart at most.
    across_samples : bool
        Whether rows of different samples can be partners.
    least_share : float
        Of a row's accesses, in [0, 1]: with so many a partner must have come, to be fetched.
    degree : int
        Rows fetched an access at most, at least 1.

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
    """Replays what followed the last misses before (Domino, HPCA 2018).

    Parameters
    ----------
    rows : int
        Rows in the index, at least 1; the one updated longest ago leaves.
    degree : int
        Rows that a stream is ahead.
    streams : int
        At a time; the one used longest ago is given up.
    followers : int
        Of each row in the index, the ones seen last.
    history : int
        Misses kept.
    all_accesses : bool
        Whether accesses that found a row count as misses do.

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
    """Fetches the rows of a region that were used together before (Bingo, HPCA 2019).

    Parameters
    ----------
    table_of : (rows,) array of int
        The table that each row is of, from 0.
    region : int
        Rows of a region: a power of two, 2 to 64.
    active : int
        Regions that accumulate at a time; of more, the one used longest ago ends.
    history : int
        Footprints kept; the one recorded longest ago leaves.
    voters : int
        Footprints of a short event that vote, the last ones.
    votes : float
        Share of them that a row needs; above 1 short events say nothing.

    Raises
    ------
    ValueError
        For a setting out of range.
    """

    def __cinit__(self, table_of, *, uint32_t region=32, uint32_t active=64,
                  uint32_t history=1 << 14, uint32_t voters=16, double votes=0.2):
        cdef const uint32_t[::1] tables = np.ascontiguousarray(table_of, dtype=np.uint32)
        cdef BingoSettings settings
        settings.region = region
        settings.active = active
        settings.history = history
        settings.voters = voters
        settings.votes = votes
        cdef vector[uint32_t] copied
        if tables.shape[0] > 0:
            copied.assign(&tables[0], &tables[0] + tables.shape[0])
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Bingo(settings, move(copied)))


cdef class Foretold(RowPrefetcher):
    """Fetches what somebody else worked out beforehand, access by access.

    Parameters
    ----------
    all_accesses : bool
        Whether after every access; else after those that found no row in use.
    """

    def __cinit__(self, *, bint all_accesses):
        self._prefetcher.reset(<c_RowPrefetcher*> new c_Foretold(all_accesses))

    def tell(self, const uint64_t[::1] rows not None, const uint64_t[::1] offsets not None):
        """Say what to fetch after each of the next accesses.

        Parameters
        ----------
        rows : (m,) contiguous buffer of uint64
            Rows to fetch.
        offsets : (n + 1,) contiguous buffer of uint64
            ``rows[offsets[i] : offsets[i + 1]]`` are fetched after access ``i`` of those to come.

        Raises
        ------
        ValueError
            For offsets that do not ascend from 0 to m; nothing is told.
        """
        (<c_Foretold*> self._prefetcher.get()).tell(_span(rows), _span(offsets))


cdef class PrefetchingSimulator:
    """Replays accesses through an eviction policy with a prefetcher beside it.

    After each access the prefetcher sees what it found, and what it chooses is fetched ahead into
    the same tier, but for what is resident or in flight.

    Parameters
    ----------
    policy, capacity, rows, count_from, seed, prefetch_lag
        As for `Simulator`.
    prefetcher : RowPrefetcher
        It keeps what it knows, and learns on here.

    Raises
    ------
    ValueError
        For an unknown policy, or a capacity of 0.
    """

    cdef unique_ptr[c_PrefetchingSimulator] _simulator
    cdef bint _running

    def __cinit__(self, str policy, uint32_t capacity, uint64_t rows,
                  RowPrefetcher prefetcher not None, *, uint64_t count_from=0, uint64_t seed=0,
                  uint64_t prefetch_lag=0):
        cdef EvictionConfig config
        config.capacity = capacity
        config.slots = capacity
        config.seed = seed
        prefetcher._get()
        cdef unique_ptr[EvictionPolicy] made = make_eviction_policy(policy.encode(), config)
        self._simulator.reset(new c_PrefetchingSimulator(
            move(made), capacity, rows, count_from, prefetch_lag, prefetcher._prefetcher))

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
            For a row out of range; nothing is replayed. For one that the prefetcher chose; what was
            replayed until then stays.
        ValueError
            For lengths that do not add up; nothing is replayed.
        RuntimeError
            While another thread runs this simulator, or for an access of which a `Foretold` was
            told nothing.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(_span(rows), _words(lengths))
        finally:
            self._running = False

    @property
    def counts(self):
        """Counts so far, as those of `Simulator`."""
        return _counts_dict(self._simulator.get().counts())
