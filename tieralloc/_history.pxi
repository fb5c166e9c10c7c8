# What was seen of each row, and what models learn from.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass WordSpan "std::span<const std::uint32_t>":
        WordSpan()
        WordSpan(const uint32_t* first, size_t count)

    cdef cppclass FloatSpan "std::span<float>":
        FloatSpan()
        FloatSpan(float* first, size_t count)


cdef extern from "learn/row_features.hpp" namespace "tieralloc" nogil:
    const uint32_t kRowFeaturesVersion
    const size_t kRowFeatures
    const size_t kContexts
    vector[string] c_row_feature_names "tieralloc::row_feature_names"() except +


cdef extern from "learn/row_history.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_RowHistory "tieralloc::RowHistory":
        c_RowHistory(RowSpan table_starts, uint32_t capacity, WordSpan contexts) except +
        c_RowHistory(const c_RowHistory& other) except +
        @staticmethod
        size_t bytes(uint32_t capacity, c_bool has_contexts)
        void observe(RowSpan rows, WordSpan sample_lengths) except +
        void write_features(RowSpan rows, float* features)
        uint64_t rows()
        uint64_t accesses()
        uint32_t size()


cdef extern from "simulator.hpp" namespace "tieralloc" nogil:
    void c_check_rows "tieralloc::check_rows"(RowSpan accesses, uint64_t rows) except +


cdef extern from "learn/prefetcher.hpp" namespace "tieralloc" nogil:
    const size_t kAheadFeatures


cdef extern from "learn/training_samples.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_TrainingSamples "tieralloc::TrainingSamples":
        FloatSpan features
        PositionSpan times
        PositionSpan distances

    void draw_training_samples(c_RowHistory& history, RowSpan rows, WordSpan sample_lengths,
                               size_t first, uint64_t seed,
                               const c_TrainingSamples& samples) except +
    size_t draw_candidate_samples(c_RowHistory& history, uint32_t logged, RowSpan rows,
                                  WordSpan sample_lengths, size_t first, uint64_t seed,
                                  const c_TrainingSamples& samples) except +


@cython.boundscheck(False)
cdef WordSpan _words(const uint32_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return WordSpan()
    return WordSpan(&values[0], values.shape[0])


@cython.boundscheck(False)
cdef FloatSpan _floats(float[:, ::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return FloatSpan()
    return FloatSpan(&values[0, 0], values.shape[0] * values.shape[1])


#: Raised whenever the same accesses come to give other features.
ROW_FEATURES_VERSION = kRowFeaturesVersion

#: Most context tables that a `RowHistory` takes.
MOST_CONTEXTS = kContexts


def row_feature_names():
    """Names of the features of a row, in the order in which `RowHistory.features` has them."""
    return [name.decode() for name in c_row_feature_names()]


cdef _room_for_samples(size_t count, size_t width, c_TrainingSamples* samples):
    """Make arrays for features, times and distances, and have `samples` point to them."""
    features = np.empty((count, width), dtype=np.float32)
    times = np.empty(count, dtype=np.uint32)
    distances = np.empty(count, dtype=np.uint32)
    cdef float[:, ::1] feature_view = features
    cdef uint32_t[::1] time_view = times
    cdef uint32_t[::1] distance_view = distances
    samples.features = _floats(feature_view)
    samples.times = _position_span(time_view)
    samples.distances = _position_span(distance_view)
    return features, times, distances


cdef class RowHistory:
    """Remembers what was seen of rows, of those the most that come back, and tells features of any.

    Parameters
    ----------
    table_starts : (T + 1,) array of int
        Table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``.
    capacity : int
        Rows to remember, at least 1; those are forgotten first that were accessed long ago and in
        few samples.
    contexts : sequence of int
        Numbers of up to `MOST_CONTEXTS` tables whose rows tell of those looked up beside them, as a
        user does.

    Raises
    ------
    ValueError
        For starts that do not ascend, contexts that are no tables, a capacity of 0.
    MemoryError
        Where there is none for `capacity` rows.
    """

    cdef unique_ptr[c_RowHistory] _history
    cdef bint _busy
    cdef bint _has_contexts
    cdef uint32_t _capacity

    def __cinit__(self, table_starts, uint32_t capacity, contexts=()):
        cdef const uint64_t[::1] starts = np.ascontiguousarray(table_starts, dtype=np.uint64)
        cdef const uint32_t[::1] tables = np.ascontiguousarray(contexts, dtype=np.uint32)
        self._history.reset(new c_RowHistory(_span(starts), capacity, _words(tables)))
        self._capacity = capacity
        self._has_contexts = len(contexts) > 0

    cdef _begin(self):
        if self._busy:
            raise RuntimeError("this history is used by another thread")
        self._busy = True

    def observe(self, const uint64_t[::1] rows not None, sample_lengths=None):
        """Take note of accesses. The GIL is released.

        Parameters
        ----------
        rows : (n,) contiguous buffer of uint64
            Rows in the order of access, numbered across the tables.
        sample_lengths : (B,) array of uint32, optional
            Accesses of each sample; they add up to ``n``. Without it all are of one sample.

        Raises
        ------
        IndexError
            For a row of no table; nothing is noted.
        ValueError
            For lengths that do not add up to ``n``; nothing is noted.
        RuntimeError
            While another thread uses this history.
        """
        if sample_lengths is None:
            sample_lengths = [rows.shape[0]]
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        self._begin()
        try:
            with nogil:
                self._history.get().observe(_span(rows), _words(lengths))
        finally:
            self._busy = False

    def features(self, const uint64_t[::1] rows not None, out=None):
        """Compute the features of rows as things stand after the last access.

        The GIL is released.

        Parameters
        ----------
        rows : (n,) contiguous buffer of uint64
            Any rows; of those not remembered the features say so.
        out : (n, F) C-contiguous array of float32, optional
            Where to write.

        Returns
        -------
        (n, F) float32
            ``F`` features, named by `row_feature_names`.

        Raises
        ------
        IndexError
            For a row of no table.
        ValueError
            For an `out` of another shape or dtype.
        RuntimeError
            While another thread uses this history.
        """
        if out is None:
            out = np.empty((rows.shape[0], kRowFeatures), dtype=np.float32)
        cdef float[:, ::1] view = out
        cdef float* first_feature = NULL
        if view.shape[0] != rows.shape[0] or <size_t> view.shape[1] != kRowFeatures:
            raise ValueError(f"out has shape ({view.shape[0]}, {view.shape[1]}), expected"
                             f" ({rows.shape[0]}, {kRowFeatures})")
        if rows.shape[0] > 0:
            first_feature = &view[0, 0]
        self._begin()
        try:
            with nogil:
                c_check_rows(_span(rows), self._history.get().rows())
                self._history.get().write_features(_span(rows), first_feature)
        finally:
            self._busy = False
        return out

    def draw_samples(self, const uint64_t[::1] rows not None, sample_lengths, *, size_t first,
                     size_t count, uint64_t seed=0):
        """Observe accesses and draw training samples on the way. The GIL is released.

        Each sample is of a row that was accessed some accesses before, the logarithm of how many
        being uniform, and of a moment; moments are spread evenly.

        Parameters
        ----------
        rows, sample_lengths
            As for `observe`; fewer than 2**32 - 1 accesses, and the first that are observed.
        first : int
            No samples are drawn before this access.
        count : int
            Samples to draw.
        seed : int
            Of what is drawn.

        Returns
        -------
        features : (count, F) float32
            As `features` gives them.
        times : (count,) uint32
            The accesses that had been observed.
        distances : (count,) uint32
            Accesses from then to the row's next one, at least 1; ``2**32 - 1`` where it has none.

        Raises
        ------
        IndexError, ValueError, RuntimeError
            As for `observe`; ValueError also for a `first` that is not below the accesses.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        cdef c_TrainingSamples samples
        drawn = _room_for_samples(count, kRowFeatures, &samples)
        self._begin()
        try:
            with nogil:
                draw_training_samples(self._history.get()[0], _span(rows), _words(lengths), first,
                                      seed, samples)
        finally:
            self._busy = False
        return drawn

    def draw_candidates(self, const uint64_t[::1] rows not None, sample_lengths, *, size_t first,
                        size_t count, uint32_t logged, uint64_t seed=0):
        """Observe accesses and draw samples of candidates for prefetching on the way.

        They are of candidates as `Prefetcher` has them when each access has been observed, some of
        all of them, the more likely the longer ago they were accessed themselves: those are not
        resident. Otherwise as `draw_samples`.

        Parameters
        ----------
        rows, sample_lengths, first, seed
            As for `draw_samples`.
        count : int
            Most samples.
        logged : int
            Accesses that are looked back over for what comes beside what, at least 1.

        Returns
        -------
        features : (n, F) float32
            As `Prefetcher.candidates` gives them.
        times, distances : (n,) uint32
            As `draw_samples`, of up to `count` samples.

        Raises
        ------
        IndexError, ValueError, RuntimeError
            As `draw_samples`.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        cdef c_TrainingSamples samples
        cdef size_t found
        drawn = _room_for_samples(count, kAheadFeatures, &samples)
        self._begin()
        try:
            with nogil:
                found = draw_candidate_samples(self._history.get()[0], logged, _span(rows),
                                               _words(lengths), first, seed, samples)
        finally:
            self._busy = False
        return tuple(part[:found] for part in drawn)

    @property
    def rows(self):
        """Rows of all tables."""
        return self._history.get().rows()

    @property
    def size(self):
        """Rows that are remembered."""
        return self._history.get().size()

    @property
    def accesses(self):
        """Accesses observed so far."""
        return self._history.get().accesses()

    @staticmethod
    def bytes_for(uint32_t capacity, has_contexts):
        """Bytes of memory that one of this capacity takes, with context tables or without."""
        return c_RowHistory.bytes(capacity, has_contexts)

    @property
    def nbytes(self):
        """Bytes of memory taken, all of it from the beginning."""
        return c_RowHistory.bytes(self._capacity, self._has_contexts)
