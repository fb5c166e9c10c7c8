# Policies that plan: trained models as the core runs them, and decisions from outside.

from cpython.exc cimport PyErr_SetInterrupt
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as c_bool
from libcpp.memory cimport make_shared, shared_ptr, unique_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector

import numpy as np


cdef extern from "<span>" namespace "std" nogil:
    cdef cppclass WordSpan "std::span<const std::uint32_t>":
        WordSpan()
        WordSpan(const uint32_t* first, size_t count)

    cdef cppclass FloatSpan "std::span<float>":
        FloatSpan()
        FloatSpan(float* first, size_t count)


cdef extern from "policy/network.hpp" namespace "tieralloc" nogil:
    cdef cppclass NetworkWeights:
        uint32_t features, tables, embedding_dim, first, second, outputs
        float bound
        vector[float] mean, scale, embedding, w1, b1, w2, b2, w3, b3

    cdef cppclass c_Network "tieralloc::Network":
        uint32_t features()
        uint32_t outputs()
        void evaluate(const float* features, size_t rows, float* probabilities) except +
        const char* kind()


cdef extern from "policy/row_history.hpp" namespace "tieralloc" nogil:
    const uint32_t kRowFeaturesVersion
    const size_t kRowFeatures
    const size_t kContexts
    vector[string] c_row_feature_names "tieralloc::row_feature_names"() except +

    cdef cppclass HistoryConfig:
        vector[uint64_t] table_starts
        vector[uint32_t] contexts
        uint32_t remembered
        uint32_t samples


cdef extern from "policy/training_samples.hpp" namespace "tieralloc" nogil:
    cdef cppclass TrainingSamples:
        FloatSpan features
        PositionSpan times
        PositionSpan distances

    void draw_row_samples_core "tieralloc::draw_row_samples"(
                          const HistoryConfig& history, RowSpan rows, WordSpan sample_lengths,
                          size_t first, uint64_t seed, const TrainingSamples& samples) except +
    size_t draw_candidate_samples_core "tieralloc::draw_candidate_samples"(
        const HistoryConfig& history, uint32_t partners, RowSpan rows, WordSpan sample_lengths,
        size_t first, uint64_t seed, const TrainingSamples& samples) except +


cdef extern from "policy/prefetcher.hpp" namespace "tieralloc" nogil:
    const size_t kCandidateFeatures
    const uint32_t kPrefetchHorizon
    vector[string] c_candidate_feature_names "tieralloc::candidate_feature_names"() except +

    cdef cppclass PrefetchStats:
        c_bool is_throttled
        uint64_t throttles
        uint64_t scored
        uint64_t chosen
        uint64_t used
        double displaced
        double calibration


cdef extern from "policy/model.hpp" namespace "tieralloc" nogil:
    cdef cppclass MakeNetwork "tieralloc::PolicyModel::MakeNetwork":
        unique_ptr[c_Network] operator()() except +

    cdef cppclass c_PolicyModel "tieralloc::PolicyModel":
        MakeNetwork caching
        MakeNetwork prefetch
        vector[uint32_t] intervals
        vector[uint32_t] prefetch_intervals
        vector[uint32_t] horizons
        vector[pair[uint32_t, double]] eviction_ages
        vector[uint32_t] contexts

    cdef cppclass MakePolicy:
        unique_ptr[EvictionPolicy] operator()(const EvictionConfig& config,
                                              const TierTables& tables) except +

    cdef cppclass TierTables:
        vector[uint64_t] starts
        vector[uint32_t] numbers

    cdef cppclass LearnedOptions:
        size_t max_bytes
        double prefetch_cost
        c_bool selects
        c_bool whole_samples


cdef extern from "policy/learned_policy.hpp" namespace "tieralloc" nogil:
    cdef cppclass LearnedStats:
        string active
        string network
        uint64_t observed
        uint64_t evaluations
        uint64_t switches
        uint64_t sampled
        double sample_rate
        PrefetchStats prefetching
        vector[pair[string, double]] miss_ratios

    cdef cppclass LearnedPolicy:
        LearnedStats stats()

    const LearnedPolicy* as_learned "dynamic_cast<const tieralloc::LearnedPolicy*>"(
        EvictionPolicy* policy)
    MakePolicy make_learned(shared_ptr[const c_PolicyModel] model, const LearnedOptions& options)


cdef extern from *:
    """
    #include <functional>
    #include <memory>
    #include <stdexcept>
    #include <string>

    #include "policy/external_policy.hpp"
    #include "policy/model.hpp"
    #include "policy/network.hpp"

    namespace {

    /// A Python object that C++ owns, and may release on any thread.
    std::shared_ptr<PyObject> own_python(PyObject* object) {
      Py_INCREF(object);
      return {object, [](PyObject* owned) {
                const PyGILState_STATE state = PyGILState_Ensure();
                Py_DECREF(owned);
                PyGILState_Release(state);
              }};
    }

    using EvaluateInPython = void (*)(PyObject* call, const float* features, std::size_t rows,
                                      std::uint32_t width, std::uint32_t outputs,
                                      float* probabilities, std::string* error);

    /// A network that a Python function evaluates, whatever it runs.
    class PythonNetwork final : public tieralloc::Network {
     public:
      PythonNetwork(std::shared_ptr<PyObject> call, std::uint32_t features, std::uint32_t outputs,
                    EvaluateInPython evaluate)
          : call_(std::move(call)), features_(features), outputs_(outputs), evaluate_(evaluate) {}

      std::uint32_t features() const override { return features_; }
      std::uint32_t outputs() const override { return outputs_; }
      const char* kind() const override { return "torch"; }
      std::size_t bytes() const override { return 0; }
      void evaluate(const float* features, std::size_t rows, float* probabilities) override {
        std::string error;
        evaluate_(call_.get(), features, rows, features_, outputs_, probabilities, &error);
        if (!error.empty()) throw std::runtime_error(error);
      }

     private:
      std::shared_ptr<PyObject> call_;
      std::uint32_t features_;
      std::uint32_t outputs_;
      EvaluateInPython evaluate_;
    };

    tieralloc::PolicyModel::MakeNetwork native_network(const tieralloc::NetworkWeights& weights) {
      tieralloc::make_native_network(weights);  // throws now rather than later
      return [weights] { return tieralloc::make_native_network(weights); };
    }

    tieralloc::PolicyModel::MakeNetwork python_network(PyObject* call, std::uint32_t features,
                                                       std::uint32_t outputs,
                                                       EvaluateInPython evaluate) {
      return [call = own_python(call), features, outputs, evaluate] {
        return std::make_unique<PythonNetwork>(call, features, outputs, evaluate);
      };
    }

    using DecideInPython = void (*)(PyObject* call, const tieralloc::RowId* rows, std::size_t n,
                                    tieralloc::ExternalDecisions* decisions, std::string* error);

    tieralloc::MakePolicy external_policy(PyObject* call, std::uint32_t eviction_speed,
                                          std::uint32_t chunk,
                                          std::vector<tieralloc::RowId> table_starts,
                                          std::size_t model_bytes, std::size_t max_bytes,
                                          DecideInPython decide) {
      const auto in_python = [call = own_python(call), decide](
                                 std::span<const tieralloc::RowId> rows) {
        tieralloc::ExternalDecisions decisions;
        std::string error;
        decide(call.get(), rows.data(), rows.size(), &decisions, &error);
        if (!error.empty()) throw std::runtime_error(error);
        return decisions;
      };
      return tieralloc::make_external({eviction_speed, chunk, in_python, std::move(table_starts),
                                       model_bytes, max_bytes});
    }

    }  // namespace
    """
    ctypedef void (*EvaluateInPython)(PyObject* call, const float* features, size_t rows,
                                      uint32_t width, uint32_t outputs, float* probabilities,
                                      string* error) noexcept
    ctypedef void (*DecideInPython)(PyObject* call, const uint64_t* rows, size_t n,
                                    ExternalDecisions* decisions, string* error) noexcept
    MakeNetwork native_network(const NetworkWeights& weights) except +
    MakeNetwork python_network(PyObject* call, uint32_t features, uint32_t outputs,
                               EvaluateInPython evaluate)
    MakePolicy external_policy(PyObject* call, uint32_t eviction_speed, uint32_t chunk,
                               vector[uint64_t] table_starts, size_t model_bytes,
                               size_t max_bytes, DecideInPython decide)
    cdef cppclass ExternalDecisions "tieralloc::ExternalDecisions":
        vector[uint8_t] keep
        vector[uint64_t] prefetches


#: Raised whenever the same accesses come to give other features.
ROW_FEATURES_VERSION = kRowFeaturesVersion

#: Context tables that a policy has at most.
MAX_CONTEXTS = kContexts


def row_feature_names():
    """Names of the features of a row, in the order in which a network takes them."""
    return [name.decode() for name in c_row_feature_names()]


def candidate_feature_names():
    """Names of the features of a candidate for prefetching, beyond those of its row."""
    return [name.decode() for name in c_candidate_feature_names()]


#: Accesses within which a prefetched row should be used.
PREFETCH_HORIZON = kPrefetchHorizon


@cython.boundscheck(False)
cdef WordSpan _words(const uint32_t[::1] values) noexcept nogil:
    if values.shape[0] == 0:
        return WordSpan()
    return WordSpan(&values[0], values.shape[0])


cdef vector[uint32_t] _word_vector(values) except *:
    cdef const uint32_t[::1] words = np.ascontiguousarray(values, dtype=np.uint32)
    cdef vector[uint32_t] found
    cdef Py_ssize_t i
    for i in range(words.shape[0]):
        found.push_back(words[i])
    return found


cdef vector[uint64_t] _row_vector(values) except *:
    cdef const uint64_t[::1] rows = np.ascontiguousarray(values, dtype=np.uint64)
    cdef vector[uint64_t] found
    if rows.shape[0] > 0:
        found.assign(&rows[0], &rows[0] + rows.shape[0])
    return found


cdef vector[float] _float_vector(values) except *:
    cdef const float[::1] floats = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    cdef vector[float] found
    if floats.shape[0] > 0:
        found.assign(&floats[0], &floats[0] + floats.shape[0])
    return found


def draw_row_samples(const uint64_t[::1] rows not None, sample_lengths, table_starts, *,
                     contexts=(), uint32_t remembered, size_t first, size_t count,
                     uint64_t seed=0):
    """Observe accesses and draw what a caching network learns from. The GIL is released.

    Each sample is of a row that was accessed some accesses before, the logarithm of how many being
    uniform, and of a moment; moments are spread evenly.

    Parameters
    ----------
    rows : (n,) contiguous buffer of uint64
        Rows in the order of access, numbered across the tables; fewer than 2**32 - 1.
    sample_lengths : (B,) array of uint32
        Accesses of each sample; they add up to ``n``.
    table_starts : (T + 1,) array of int
        Table ``t`` has rows ``table_starts[t]`` to ``table_starts[t + 1] - 1``.
    contexts : sequence of int
        Numbers of up to `MAX_CONTEXTS` context tables.
    remembered : int
        Rows that the history remembers.
    first : int
        No samples are drawn before this access.
    count : int
        Samples to draw.
    seed : int
        Random seed.

    Returns
    -------
    features : (count, F) float32
        Named by `row_feature_names`.
    times : (count,) uint32
        The accesses that had been observed.
    distances : (count,) uint32
        Accesses from then to the row's next one, at least 1; ``2**32 - 1`` where it has none.

    Raises
    ------
    IndexError
        For a row of no table.
    ValueError
        For lengths that do not add up, starts that do not ascend, contexts that are no tables, or a
        `first` that is not below the accesses.
    """
    return _draw(rows, sample_lengths, table_starts, contexts, remembered, 0, first, count, seed)


def draw_candidate_samples(const uint64_t[::1] rows not None, sample_lengths, table_starts, *,
                           contexts=(), uint32_t remembered, uint32_t partners, size_t first,
                           size_t count, uint64_t seed=0):
    """Observe accesses and draw what a prefetch network learns from, as `draw_row_samples` does.

    Samples are of candidates that the accesses give, more likely the longer ago they were accessed
    themselves: those are not resident.

    Parameters
    ----------
    rows, sample_lengths, table_starts, contexts, remembered, first, seed
        As for `draw_row_samples`.
    partners : int
        Rows whose partners are remembered, at least 1.
    count : int
        Samples at most.

    Returns
    -------
    features : (n, F) float32
        Those of `row_feature_names`, then those of `candidate_feature_names`.
    times, distances : (n,) uint32
        As of `draw_row_samples`.

    Raises
    ------
    IndexError, ValueError
        As `draw_row_samples`.
    """
    return _draw(rows, sample_lengths, table_starts, contexts, remembered, max(partners, 1), first,
                 count, seed)


cdef _draw(const uint64_t[::1] rows, sample_lengths, table_starts, contexts, uint32_t remembered,
           uint32_t partners, size_t first, size_t count, uint64_t seed):
    """Draw samples of candidates, or of rows where `partners` is 0."""
    cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
    cdef size_t width = kCandidateFeatures if partners > 0 else kRowFeatures
    cdef HistoryConfig config
    config.table_starts = _row_vector(table_starts)
    config.contexts = _word_vector(contexts)
    config.remembered = remembered
    config.samples = 0xFFFFFFFF
    features = np.empty((count, width), dtype=np.float32)
    times = np.empty(count, dtype=np.uint32)
    distances = np.empty(count, dtype=np.uint32)
    cdef float[:, ::1] feature_view = features
    cdef uint32_t[::1] time_view = times
    cdef uint32_t[::1] distance_view = distances
    cdef TrainingSamples samples
    cdef size_t drawn = count
    if count > 0:
        samples.features = FloatSpan(&feature_view[0, 0], count * width)
    samples.times = _position_span(time_view)
    samples.distances = _position_span(distance_view)
    with nogil:
        if partners > 0:
            drawn = draw_candidate_samples_core(config, partners, _span(rows), _words(lengths),
                                                first, seed, samples)
        else:
            draw_row_samples_core(config, _span(rows), _words(lengths), first, seed, samples)
    return features[:drawn], times[:drawn], distances[:drawn]


cdef void _set_error(string* error) noexcept:
    """Describe the Python exception in flight."""
    import sys
    kind, value, _ = sys.exc_info()
    text = str(value).strip().splitlines()
    error[0] = f"{kind.__name__}: {text[-1] if text else ''}".encode()
    if issubclass(kind, KeyboardInterrupt):
        PyErr_SetInterrupt()  # pending again, for the caller; last: any Python code would raise it


cdef void _evaluate_in_python(PyObject* call, const float* features, size_t rows, uint32_t width,
                              uint32_t outputs, float* probabilities,
                              string* error) noexcept with gil:
    try:
        given = np.asarray(<const float[:rows, :width]> <float*> features)
        found = np.ascontiguousarray((<object> call)(given), dtype=np.float32)
        if found.shape != (rows, outputs):
            raise ValueError(f"model: expected shape {(rows, outputs)}, got {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError("model: expected finite numbers, got NaN or infinity")
        np.asarray(<float[:rows, :outputs]> probabilities)[:] = found
    except BaseException:
        _set_error(error)


cdef void _decide_in_python(PyObject* call, const uint64_t* rows, size_t n,
                            ExternalDecisions* decisions, string* error) noexcept with gil:
    cdef const uint8_t[::1] keep
    try:
        kept, prefetches = (<object> call)(np.asarray(<const uint64_t[:n]> <uint64_t*> rows))
        keep = np.ascontiguousarray(kept, dtype=np.bool_).view(np.uint8)
        if keep.shape[0] > 0:
            decisions.keep.assign(&keep[0], &keep[0] + keep.shape[0])
        decisions.prefetches = _row_vector(prefetches)
    except BaseException:
        _set_error(error)


cdef NetworkWeights _weights(arrays) except *:
    cdef NetworkWeights weights
    weights.first, weights.second = len(arrays["b1"]), len(arrays["b2"])
    weights.outputs = len(arrays["b3"])
    weights.features = 1 + len(arrays["mean"])
    weights.tables, weights.embedding_dim = np.shape(arrays["embedding"])
    weights.bound = arrays["bound"]
    weights.mean = _float_vector(arrays["mean"])
    weights.scale = _float_vector(arrays["scale"])
    weights.embedding = _float_vector(arrays["embedding"])
    weights.w1 = _float_vector(arrays["w1"])
    weights.b1 = _float_vector(arrays["b1"])
    weights.w2 = _float_vector(arrays["w2"])
    weights.b2 = _float_vector(arrays["b2"])
    weights.w3 = _float_vector(arrays["w3"])
    weights.b3 = _float_vector(arrays["b3"])
    return weights


cdef class Network:
    """A network as a policy runs it: natively, or by a Python function.

    Parameters
    ----------
    source : mapping or callable
        The weights of the perceptron that the core runs natively: arrays mean, scale, embedding,
        w1, b1, w2, b2, w3, b3 (each ``w`` (out, in)) and the number bound; or
        ``source(features) -> probabilities``, from (n, `features`), valid during the call, to
        (n, `outputs`) float32.
    features, outputs : int
        Of a callable.

    Raises
    ------
    ValueError
        For weights whose sizes contradict each other, or that are not finite.
    """

    cdef MakeNetwork _make
    cdef unique_ptr[c_Network] _network

    def __cinit__(self, source, *, uint32_t features=0, uint32_t outputs=0):
        if callable(source):
            self._make = python_network(<PyObject*> source, features, outputs, _evaluate_in_python)
        else:
            self._make = native_network(_weights(source))
        self._network = self._make()

    @property
    def kind(self):
        """What runs it: an instruction set, or "torch"."""
        return self._network.get().kind().decode()

    def evaluate(self, features):
        """Return probabilities, (n, outputs) float32, for features, (n, width)."""
        cdef const float[:, ::1] given = np.ascontiguousarray(features, dtype=np.float32)
        cdef uint32_t width = self._network.get().features()
        if <uint32_t> given.shape[1] != width:
            raise ValueError(f"features: expected {width} per row, got {given.shape[1]}")
        found = np.empty((given.shape[0], self._network.get().outputs()), dtype=np.float32)
        cdef float[:, ::1] view = found
        cdef size_t rows = given.shape[0]
        if rows > 0:
            with nogil:
                self._network.get().evaluate(&given[0, 0], rows, &view[0, 0])
        return found


cdef class PlannedModel:
    """What a store or a simulator runs as its policy: a `LearnedModel` or an `ExternalModel`."""

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        raise TypeError("expected a LearnedModel or an ExternalModel")


cdef class LearnedModel(PlannedModel):
    """A trained policy.

    Parameters
    ----------
    caching : Network
        From the features of a row to the hazards of its next use, one per interval.
    prefetch : Network, optional
        From the features of a candidate to the hazards of its next use; none: nothing is
        prefetched.
    intervals, prefetch_intervals : sequence of int
        Upper ends of the networks' intervals, in accesses, ascending. Those of the prefetch network
        begin with 0, the rest of the sample, and count from its end.
    horizons : sequence of int
        Accesses within which a use may count, ascending.
    eviction_ages : sequence of (int, float)
        Capacities, ascending, and after how many accesses LRU evicts there.
    contexts : sequence of int
        Numbers of context tables.

    Raises
    ------
    ValueError
        For sequences that are empty or do not ascend.
    """

    cdef shared_ptr[c_PolicyModel] _model

    def __cinit__(self, Network caching not None, Network prefetch=None, *, intervals, horizons,
                  eviction_ages, prefetch_intervals=(0, PREFETCH_HORIZON), contexts=()):
        for name, values in (("intervals", intervals), ("horizons", horizons),
                             ("prefetch_intervals after the first", prefetch_intervals[1:]),
                             ("eviction_ages", [rows for rows, _ in eviction_ages])):
            steps = np.diff(np.asarray(values, dtype=np.int64), prepend=0)
            if len(steps) == 0 or (steps <= 0).any():
                raise ValueError(f"{name}: expected to ascend from above 0, got {list(values)}")
        if prefetch_intervals[0] != 0:
            raise ValueError(f"prefetch_intervals: expected 0 first, got {prefetch_intervals[0]}")
        if not all(age > 0 for _, age in eviction_ages):
            raise ValueError(f"eviction_ages: expected above 0, got {list(eviction_ages)}")
        self._model = make_shared[c_PolicyModel]()
        cdef c_PolicyModel* model = self._model.get()
        model.caching = caching._make
        if prefetch is not None:
            model.prefetch = prefetch._make
        model.intervals = _word_vector(intervals)
        model.prefetch_intervals = _word_vector(prefetch_intervals)
        model.horizons = _word_vector(horizons)
        for rows, age in eviction_ages:
            model.eviction_ages.push_back(pair[uint32_t, double](rows, age))
        model.contexts = _word_vector(contexts)

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        return make_learned(<shared_ptr[const c_PolicyModel]> self._model, options)


cdef class ExternalModel(PlannedModel):
    """Decisions of a Python function, chunk by chunk, which take effect once they are made.

    Parameters
    ----------
    decide : callable
        ``decide(rows) -> keep, prefetches``: rows are whole chunks of accesses, (n,) uint64, valid
        during the call; keep says of each whether its row gets the highest priority, (n,) bool;
        prefetches are rows to fetch, (any,) uint64.
    chunk : int
        Accesses.
    eviction_speed : int
        Rounds that a row of the ordinary priority survives, at most 254.
    table_starts : (T + 1,) array of int, optional
        `decide` numbers the rows of table ``t`` from ``table_starts[t]`` to
        ``table_starts[t + 1] - 1``. Without it, as the tier does: all tables must share one.
    nbytes : int
        Memory that `decide` takes.

    Raises
    ------
    ValueError
        For starts that do not ascend from 0. A simulator or a store raises it for a chunk of 0, an
        eviction speed out of range, tables of other sizes, or too few `max_bytes`.
    """

    cdef object _decide
    cdef uint32_t _chunk
    cdef uint32_t _eviction_speed
    cdef vector[uint64_t] _table_starts
    cdef size_t _nbytes

    def __cinit__(self, decide, *, uint32_t chunk, uint32_t eviction_speed, table_starts=(),
                  size_t nbytes=0):
        starts = np.asarray(table_starts, dtype=np.int64)
        if len(starts) > 0 and (starts[0] != 0 or (np.diff(starts) < 0).any()):
            raise ValueError(f"table_starts: expected to ascend from 0, got {starts.tolist()}")
        self._decide, self._chunk, self._eviction_speed = decide, chunk, eviction_speed
        self._table_starts = _row_vector(starts)
        self._nbytes = nbytes

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        return external_policy(<PyObject*> self._decide, self._eviction_speed, self._chunk,
                               self._table_starts, self._nbytes, options.max_bytes,
                               _decide_in_python)


cdef _learned_dict(LearnedStats stats):
    cdef pair[string, double] estimate
    return {
        "active": stats.active.decode(),
        "network": stats.network.decode(),
        "observed": stats.observed,
        "evaluations": stats.evaluations,
        "switches": stats.switches,
        "sampled": stats.sampled,
        "sample_rate": stats.sample_rate,
        "prefetching": {
            "paused": stats.prefetching.is_throttled,
            "pauses": stats.prefetching.throttles,
            "scored": stats.prefetching.scored,
            "chosen": stats.prefetching.chosen,
            "used": stats.prefetching.used,
            "displaced": stats.prefetching.displaced,
            "calibration": stats.prefetching.calibration,
        },
        "miss_ratios": {estimate.first.decode(): estimate.second
                        for estimate in stats.miss_ratios},
    }
