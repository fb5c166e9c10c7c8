# The simulator of a fast tier whose victims a model scores.

from libc.stdint cimport uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from *:
    """
    #include <stdexcept>

    #include "scored_simulator.hpp"

    namespace {
    // Scores by way of Python; 0 where that raised.
    using CallPython = int (*)(void* context, const float* features, std::size_t rows,
                                float* scores);

    tieralloc::ScoreRows score_rows(CallPython call, void* context) {
      return [=](std::span<const float> features, std::span<float> scores) {
        if (call(context, features.data(), scores.size(), scores.data()) != 0) return;
        throw std::runtime_error("scoring failed");
      };
    }
    std::optional<tieralloc::Prefetching> prefetching_of(const tieralloc::Prefetcher& prefetcher,
                                                         tieralloc::ScoreRows score,
                                                         std::uint64_t lag) {
      return tieralloc::Prefetching{prefetcher, std::move(score), lag};
    }
    }  // namespace
    """
    ctypedef bint (*CallPython)(void* context, const float* features, size_t rows,
                                float* scores) noexcept
    cdef cppclass ScoreRows "tieralloc::ScoreRows":
        pass
    ScoreRows score_rows(CallPython call, void* context)
    cdef cppclass OptionalPrefetching "std::optional<tieralloc::Prefetching>":
        OptionalPrefetching()
    OptionalPrefetching prefetching_of(const c_Prefetcher& prefetcher, ScoreRows score,
                                       uint64_t lag) except +


cdef extern from "scored_simulator.hpp" namespace "tieralloc" nogil:
    cdef cppclass Guidance:
        uint32_t candidates
        uint32_t victims
        vector[string] rivals

    cdef cppclass c_ScoredSimulator "tieralloc::ScoredSimulator":
        c_ScoredSimulator(uint32_t capacity, c_RowHistory history, ScoreRows score,
                          const Guidance& guidance, uint64_t count_from, uint64_t guide_from,
                          uint64_t seed, OptionalPrefetching prefetching) except +
        void run(RowSpan rows, WordSpan sample_lengths) except +
        const Counts& counts()
        uint64_t switches()


cdef bint _score_in_python(void* context, const float* features, size_t rows,
                           float* scores) noexcept with gil:
    cdef ScoredSimulator simulator = <ScoredSimulator> context
    try:
        simulator._score_rows(simulator._score, features, rows, kRowFeatures, scores)
        return True
    except BaseException as error:
        simulator._error = error
        return False


cdef bint _score_ahead_in_python(void* context, const float* features, size_t rows,
                                 float* scores) noexcept with gil:
    cdef ScoredSimulator simulator = <ScoredSimulator> context
    try:
        simulator._score_rows(simulator._score_ahead, features, rows, kAheadFeatures, scores)
        return True
    except BaseException as error:
        simulator._error = error
        return False


cdef class ScoredSimulator:
    """Replays accesses while a model says, of a few residents at a time, which should leave.

    Where nothing is advised to leave, `candidates` residents are drawn at random and scored; the
    `victims` with the lowest scores leave one after another, but for those accessed before.

    Parameters
    ----------
    history : RowHistory
        What is known when the replay begins; it is copied.
    capacity, count_from, seed : int
        As for `Simulator`.
    score : callable
        ``score(features) -> scores``: from (n, F) float32, valid during the call, to (n,) finite
        float32.
    candidates, victims : int
        ``1 <= victims <= candidates``.
    guide_from : int
        Until this access of the stream, counted from the history's first, the least recently used
        row leaves, and nothing is fetched ahead.
    prefetcher : Prefetcher, optional
        Chooses after each access what to fetch ahead; it is copied.
    score_ahead : callable, with `prefetcher`
        As `score`, of the features of candidates: the chance that each is asked for.
    lag : int
        Accesses for which a row fetched ahead is in flight.
    rivals : sequence of str
        Simple policies, of which one decides where it misses less than the model, as in a store
        under a `Guard`.

    Raises
    ------
    ValueError
        For a capacity of 0, numbers out of range, or an unknown policy.
    """

    cdef unique_ptr[c_ScoredSimulator] _simulator
    cdef object _score
    cdef object _score_ahead
    cdef object _error
    cdef bint _running

    def __cinit__(self, RowHistory history not None, uint32_t capacity, score, *,
                  uint32_t candidates, uint32_t victims, uint64_t count_from=0,
                  uint64_t guide_from=0, uint64_t seed=0, Prefetcher prefetcher=None,
                  score_ahead=None, uint64_t lag=0, rivals=()):
        cdef Guidance guidance
        cdef OptionalPrefetching prefetching
        if (prefetcher is None) != (score_ahead is None):
            raise ValueError("prefetcher and score_ahead: expected both or neither")
        guidance.candidates = candidates
        guidance.victims = victims
        guidance.rivals = [rival.encode() for rival in rivals]
        self._score = score
        self._score_ahead = score_ahead
        if prefetcher is not None:
            prefetching = prefetching_of(prefetcher._prefetcher.get()[0],
                                         score_rows(_score_ahead_in_python, <void*> self), lag)
        self._simulator.reset(new c_ScoredSimulator(
            capacity, history._history.get()[0], score_rows(_score_in_python, <void*> self),
            guidance, count_from, guide_from, seed, prefetching))

    cdef _score_rows(self, score, const float* features, size_t rows, size_t width, float* scores):
        cdef const float[:, ::1] given = <const float[:rows, :width]> features
        cdef const float[:] found = score(np.asarray(given))
        if <size_t> found.shape[0] != rows:
            raise ValueError(f"there are {found.shape[0]} scores, expected {rows}")
        cdef size_t i
        for i in range(rows):
            scores[i] = found[i]

    def run(self, const uint64_t[::1] rows not None, sample_lengths):
        """Replay the next samples of the stream.

        Parameters
        ----------
        rows, sample_lengths
            As for `RowHistory.observe`.

        Raises
        ------
        IndexError, ValueError
            As for `RowHistory.observe`; nothing is replayed.
        RuntimeError
            For a score that is not finite, or while another thread runs this simulator.
        ValueError
            For a chance of `score_ahead` that is not in [0, 1].
        Exception
            Whatever scoring raised; the simulator is of no use then.
        """
        cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
        if self._running:
            raise RuntimeError("this simulator is running in another thread")
        self._running = True
        try:
            with nogil:
                self._simulator.get().run(_span(rows), _words(lengths))
        except RuntimeError:
            if self._error is None:
                raise
            error, self._error = self._error, None
            raise error from None
        finally:
            self._running = False

    @property
    def counts(self):
        """Counts so far, as those of `Simulator`."""
        return _counts_dict(self._simulator.get().counts())

    @property
    def switches(self):
        """Times that another policy, or the model again, came to decide."""
        return self._simulator.get().switches()
