# policy/: networks, training samples, and the policies that run models.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as c_bool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport FloatSpan, PositionSpan, RowSpan, WordSpan
from tieralloc._bindings.core.eviction cimport EvictionConfig, EvictionPolicy


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
        c_bool pauses
        uint64_t pauses_begun
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


cdef extern from "policy/external_policy.hpp" namespace "tieralloc" nogil:
    cdef cppclass ExternalDecisions "tieralloc::ExternalDecisions":
        vector[uint8_t] keep
        vector[uint64_t] prefetches
