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

    Each sample is of a moment and of a row that was accessed before it. Moments are spread evenly;
    the logarithm of the accesses since the row's own is uniform.

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
        Max rows in the history.
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
        Number of observed accesses.
    distances : (count,) uint32
        Accesses from then to the row's next one, at least 1; ``2**32 - 1`` if it has none.

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
    """Observe accesses and draw training samples of a prefetch network.

    As `draw_row_samples`, but of prefetch candidates of the accesses. Candidates accessed longer
    ago are drawn more often: they are not resident.

    Parameters
    ----------
    rows, sample_lengths, table_starts, contexts, remembered, first, seed
        As for `draw_row_samples`.
    partners : int
        Max rows whose partners are remembered, at least 1.
    count : int
        Max samples.

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
