# distutils: language = c++
"""Training samples of networks, drawn from recorded accesses."""

from libc.stdint cimport uint32_t, uint64_t

import numpy as np

from tieralloc._bindings.arguments cimport row_vector, word_vector
from tieralloc._bindings.core.base cimport FloatSpan
from tieralloc._bindings.core.policy cimport (
    HistoryConfig,
    TrainingSamples,
    c_candidate_feature_names,
    c_row_feature_names,
    draw_candidate_samples_core,
    draw_row_samples_core,
    kCandidateFeatures,
    kContexts,
    kPrefetchHorizon,
    kRowFeatures,
    kRowFeaturesVersion,
)
from tieralloc._bindings.spans cimport position_span, row_span, word_span


#: Incremented when the same accesses give other features.
ROW_FEATURES_VERSION = kRowFeaturesVersion

#: Max context tables of a policy.
MAX_CONTEXTS = kContexts


def row_feature_names():
    """Names of the features of a row, in the order of a network's inputs."""
    return [name.decode() for name in c_row_feature_names()]


def candidate_feature_names():
    """Names of the features of a candidate for prefetching, beyond those of its row."""
    return [name.decode() for name in c_candidate_feature_names()]


#: Accesses within which a prefetched row should be used.
PREFETCH_HORIZON = kPrefetchHorizon


def draw_row_samples(const uint64_t[::1] rows not None, sample_lengths, table_starts, *,
                     contexts=(), uint32_t remembered, size_t first, size_t count,
                     uint64_t seed=0):
    """Observe accesses and draw training samples of a caching network. The GIL is released.

    Each sample is of a moment and of a row that was accessed before it. Moments are spread evenly
    from access `first` on; the logarithm of the accesses since the row's own is uniform. The
    history holds at most `remembered` rows. `rows`, `sample_lengths` and `table_starts` are the
    fields of a `Stream`, `contexts` up to `MAX_CONTEXTS` tables.

    Returns features, (count, F) float32, named by `row_feature_names`; times, (count,) uint32, the
    number of observed accesses; and distances, (count,) uint32: accesses from then to the row's
    next one, at least 1, or 2**32 - 1 if it has none. IndexError for a row of no table, ValueError
    for other invalid arguments.
    """
    return _draw(rows, sample_lengths, table_starts, contexts, remembered, 0, first, count, seed)


def draw_candidate_samples(const uint64_t[::1] rows not None, sample_lengths, table_starts, *,
                           contexts=(), uint32_t remembered, uint32_t partners, size_t first,
                           size_t count, uint64_t seed=0):
    """Observe accesses and draw at most `count` training samples of a prefetch network.

    As `draw_row_samples`, but of prefetch candidates of the accesses: `partners` is the max number
    of rows whose partners are remembered. Candidates accessed longer ago are drawn more often: they
    are not resident. The features of `candidate_feature_names` follow those of the row.
    """
    return _draw(rows, sample_lengths, table_starts, contexts, remembered, max(partners, 1), first,
                 count, seed)


cdef _draw(const uint64_t[::1] rows, sample_lengths, table_starts, contexts, uint32_t remembered,
           uint32_t partners, size_t first, size_t count, uint64_t seed):
    """Draw samples of candidates, or of rows where `partners` is 0."""
    cdef const uint32_t[::1] lengths = np.ascontiguousarray(sample_lengths, dtype=np.uint32)
    cdef size_t width = kCandidateFeatures if partners > 0 else kRowFeatures
    cdef HistoryConfig config
    config.table_starts = row_vector(table_starts)
    config.contexts = word_vector(contexts)
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
    samples.times = position_span(time_view)
    samples.distances = position_span(distance_view)
    with nogil:
        if partners > 0:
            drawn = draw_candidate_samples_core(config, partners, row_span(rows),
                                                word_span(lengths), first, seed, samples)
        else:
            draw_row_samples_core(config, row_span(rows), word_span(lengths), first, seed, samples)
    return features[:drawn], times[:drawn], distances[:drawn]
