# Which rows to fetch ahead, with a model to say how likely each is.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass ScoreSpan "std::span<const float>":
        ScoreSpan()
        ScoreSpan(const float* first, size_t count)

    cdef cppclass BoolSpan "std::span<const bool>":
        BoolSpan(const c_bool* first, size_t count)


cdef extern from "learn/successors.hpp" namespace "tieralloc" nogil:
    const uint32_t kCandidateFeaturesVersion
    vector[string] c_candidate_feature_names "tieralloc::candidate_feature_names"() except +

    cdef cppclass Candidate:
        uint64_t row

    cdef cppclass CandidateSpan "std::span<const tieralloc::Candidate>":
        size_t size()
        const Candidate& operator[](size_t place)


cdef extern from "learn/prefetcher.hpp" namespace "tieralloc" nogil:
    const size_t kAheadFeatures
    const uint32_t kPrefetchHorizon

    cdef cppclass c_Prefetcher "tieralloc::Prefetcher":
        c_Prefetcher(uint32_t capacity, float least) except +
        c_Prefetcher(const c_Prefetcher& other) except +
        @staticmethod
        size_t bytes(uint32_t capacity)
        void observe(RowSpan rows, WordSpan sample_lengths) except +
        void learn(RowSpan rows, WordSpan sample_lengths) except +
        CandidateSpan take_candidates() except +
        CandidateSpan keep_wanted(BoolSpan wanted)
        void choose(RowSpan candidates, ScoreSpan scores, vector[uint64_t]& rows) except +
        float trust()

    void c_write_features "tieralloc::write_features"(const c_RowHistory& history,
                                                      CandidateSpan candidates, float* features)


#: Raised whenever the same accesses come to give other features of candidates.
CANDIDATE_FEATURES_VERSION = kCandidateFeaturesVersion

#: Accesses within which a row that was fetched ahead should be asked for.
PREFETCH_HORIZON = kPrefetchHorizon


def candidate_feature_names():
    """Names of the features of a candidate that follow those of its row, in order."""
    return [name.decode() for name in c_candidate_feature_names()]


cdef _candidate_rows(CandidateSpan candidates):
    rows = np.empty(candidates.size(), dtype=np.uint64)
    cdef uint64_t[::1] view = rows
    cdef size_t i
    with nogil:
        for i in range(candidates.size()):
            view[i] = candidates[i].row
    return rows


cdef class Prefetcher:
    """Knows which rows come beside which, and chooses what to fetch ahead.

    For one thread at a time. The GIL is released.

    Parameters
    ----------
    capacity : int
        Accesses to look back over, at least 1 and below 2**31.
    least : float
        The chance that a row has to have of being asked for within `PREFETCH_HORIZON` accesses, in
        (0, 1].

    Raises
    ------
    ValueError
        For numbers out of range.
    MemoryError
        Where there is none for `capacity` accesses.
    """

    cdef unique_ptr[c_Prefetcher] _prefetcher
    cdef uint32_t _capacity

    def __cinit__(self, uint32_t capacity, float least):
        self._prefetcher.reset(new c_Prefetcher(capacity, least))
        self._capacity = capacity

    def observe(self, const uint64_t[::1] rows not None, sample_lengths):
        """Take note of accesses, (n,) uint64, of samples of so many rows each.

        Raises
        ------
        ValueError
            For lengths that do not add up to ``n``, or rows of 2**47 and above; nothing is noted.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        with nogil:
            self._prefetcher.get().observe(_span(rows), _words(lengths))

    def learn(self, const uint64_t[::1] rows not None, sample_lengths):
        """As `observe`, where nobody asks for candidates, which costs less: there will be none.

        Raises
        ------
        ValueError
            As `observe`.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        with nogil:
            self._prefetcher.get().learn(_span(rows), _words(lengths))

    def candidates(self, RowHistory history not None, wanted=None):
        """Take the rows that may be worth fetching, as accesses since the last call have it.

        Parameters
        ----------
        history : RowHistory
            That observed the same accesses.
        wanted : callable, optional
            ``wanted(rows) -> flags``: for rows, (n,) uint64, whether each is worth a thought,
            (n,) bool. Without it all are.

        Returns
        -------
        rows : (n,) uint64
            Some thousands at most, none of them chosen within the last `PREFETCH_HORIZON` accesses
            and not asked for since.
        features : (n, F) float32
            Of each row those of `RowHistory.features`, and then `candidate_feature_names`.

        Raises
        ------
        IndexError
            For a row that is none of the history's.
        RuntimeError
            While another thread uses the history.
        """
        cdef CandidateSpan found
        cdef const uint8_t[::1] flags
        with nogil:
            found = self._prefetcher.get().take_candidates()
        rows = _candidate_rows(found)
        c_check_rows(_span(rows), history.rows)
        if wanted is not None and found.size() > 0:
            flags = np.ascontiguousarray(wanted(rows), dtype=np.bool_).view(np.uint8)
            if <size_t> flags.shape[0] != found.size():
                raise ValueError(f"there are {flags.shape[0]} flags, expected {found.size()}")
            with nogil:
                found = self._prefetcher.get().keep_wanted(
                    BoolSpan(<const c_bool*> &flags[0], flags.shape[0]))
            rows = rows[np.asarray(flags).view(np.bool_)]
        features = np.empty((found.size(), kAheadFeatures), dtype=np.float32)
        cdef float[:, ::1] feature_view = features
        history._begin()
        try:
            if found.size() > 0:
                with nogil:
                    c_write_features(history._history.get()[0], found, &feature_view[0, 0])
        finally:
            history._busy = False
        return rows, features

    def choose(self, const uint64_t[::1] candidates not None, const float[::1] scores not None):
        """Choose what to fetch, the likeliest first.

        Parameters
        ----------
        candidates : (n,) uint64
            Some of those last taken.
        scores : (n,) float32
            The chance of each to be asked for within `PREFETCH_HORIZON` accesses.

        Returns
        -------
        (m,) uint64
            Rows.

        Raises
        ------
        ValueError
            For another number of scores, or one that is not in [0, 1]; nothing is chosen.
        """
        if candidates.shape[0] != scores.shape[0]:
            raise ValueError(f"there are {scores.shape[0]} scores, expected {candidates.shape[0]}")
        cdef vector[uint64_t] rows
        if candidates.shape[0] > 0:
            with nogil:
                self._prefetcher.get().choose(_span(candidates),
                                              ScoreSpan(&scores[0], scores.shape[0]), rows)
        return np.array(rows, dtype=np.uint64)

    @property
    def trust(self):
        """What scores are multiplied by: less than 1 where rows were asked for less than promised."""
        return self._prefetcher.get().trust()

    @staticmethod
    def bytes_for(uint32_t capacity):
        """Bytes of memory that one of this capacity takes at most."""
        return c_Prefetcher.bytes(capacity)

    @property
    def nbytes(self):
        """Bytes of memory taken at most."""
        return c_Prefetcher.bytes(self._capacity)
