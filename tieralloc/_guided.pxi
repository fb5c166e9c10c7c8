# The simulator of a fast tier that models guide.

from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass FlagSpan "std::span<const std::uint8_t>":
        FlagSpan()
        FlagSpan(const uint8_t* first, size_t count)


cdef extern from "guided_simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass c_GuidedSimulator "tieralloc::GuidedSimulator":
        c_GuidedSimulator(uint32_t capacity, uint64_t rows, uint32_t chunk,
                          uint32_t eviction_speed, uint64_t count_from,
                          uint64_t prefetch_lag) except +
        void run(RowSpan accesses, FlagSpan keep, RowSpan prefetches, RowSpan offsets) except +
        @staticmethod
        size_t bytes(uint32_t capacity, uint64_t rows)
        void write_standings(RowSpan rows, double* standings) except +
        const Counts& counts()


@cython.boundscheck(False)
cdef FlagSpan _flags(const uint8_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return FlagSpan()
    return FlagSpan(&values[0], values.shape[0])


cdef class GuidedSimulator:
    """Replays accesses chunk by chunk, each chunk's decisions taking effect after it.

    Rows leave by priorities, the lowest first, which decay as evictions proceed (RecMG's buffer).

    Parameters
    ----------
    capacity, rows, count_from : int
        As for `Simulator`.
    chunk : int
        Accesses of a chunk, at least 1.
    eviction_speed : int
        The priority of a row that is new, prefetched or not worth keeping, at most 254; one more is
        that of a row worth keeping. Rounds of evictions that a row outlives, that is.
    prefetch_lag : int
        Accesses for which a prefetched row is in flight.

    Raises
    ------
    ValueError
        For a capacity or chunk of 0, or an eviction speed out of range.
    """

    cdef unique_ptr[c_GuidedSimulator] _simulator
    cdef bint _running
    cdef size_t _bytes

    def __cinit__(self, uint32_t capacity, uint64_t rows, *, uint32_t chunk,
                  uint32_t eviction_speed, uint64_t count_from=0, uint64_t prefetch_lag=0):
        self._simulator.reset(new c_GuidedSimulator(capacity, rows, chunk, eviction_speed,
                                                    count_from, prefetch_lag))
        self._bytes = c_GuidedSimulator.bytes(capacity, rows)

    def run(self, const uint64_t[::1] accesses not None, keep not None,
            const uint64_t[::1] prefetches not None, const uint64_t[::1] offsets not None):
        """Replay the next piece of the access stream.

        Parameters
        ----------
        accesses : (n,) contiguous buffer of uint64
            Row numbers. Only the stream's last piece may end within a chunk.
        keep : (n // chunk * chunk,) array of bool
            Whether the row of each access to a whole chunk is worth keeping.
        prefetches : (m,) contiguous buffer of uint64
            Rows to fetch ahead.
        offsets : (n // chunk + 1,) contiguous buffer of uint64
            ``prefetches[offsets[c] : offsets[c + 1]]`` are fetched after chunk ``c``.

        Raises
        ------
        IndexError
            For a row not below `rows`; nothing is replayed.
        ValueError
            Where sizes contradict each other; nothing is replayed.
        RuntimeError
            While another thread runs this simulator.
        """
        cdef const uint8_t[::1] flags = np.ascontiguousarray(keep, dtype=np.bool_).view(np.uint8)
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(_span(accesses), _flags(flags), _span(prefetches),
                                          _span(offsets))
        finally:
            self._running = False

    def standings(self, const uint64_t[::1] rows not None):
        """Say of rows, (n,), how far each is from leaving, (n,) float64; -1: it is not there.

        Its priority, less a share of 1 that grows with the time since it got it.

        Raises
        ------
        IndexError
            For a row not below `rows`.
        """
        found = np.empty(rows.shape[0])
        cdef double[::1] view = found
        if rows.shape[0] > 0:
            self._simulator.get().write_standings(_span(rows), &view[0])
        return found

    @property
    def nbytes(self):
        """Bytes of memory that it takes."""
        return self._bytes

    @property
    def counts(self):
        """Counts so far, as those of `Simulator`."""
        return _counts_dict(self._simulator.get().counts())
