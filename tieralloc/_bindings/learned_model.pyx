# distutils: language = c++
"""Trained models, which the core runs."""

from libc.stdint cimport uint32_t
from libcpp.memory cimport make_shared, shared_ptr
from libcpp.pair cimport pair

import numpy as np

from tieralloc._bindings.arguments cimport word_vector
from tieralloc._bindings.core.policy cimport (
    LearnedOptions,
    MakePolicy,
    c_PolicyModel,
    kPrefetchHorizon,
    make_learned,
)
from tieralloc._bindings.network cimport Network
from tieralloc._bindings.planned_model cimport PlannedModel


cdef class LearnedModel(PlannedModel):
    """A trained policy.

    Parameters
    ----------
    caching : Network
        Maps the features of a row to the hazards of its next use, one per interval.
    prefetch : Network, optional
        Maps the features of a candidate to the hazards of its next use; None: nothing is
        prefetched.
    intervals, prefetch_intervals : sequence of int
        Upper ends of the networks' intervals, in accesses, ascending. Those of the prefetch network
        begin with 0, the rest of the sample, and count from its end.
    horizons : sequence of int
        Accesses within which a use may count, ascending.
    eviction_ages : sequence of (int, float)
        Capacities, ascending, and the accesses after which LRU evicts there.
    contexts : sequence of int
        Numbers of context tables.

    Raises
    ------
    ValueError
        For sequences that are empty or do not ascend.
    """

    def __cinit__(self, Network caching not None, Network prefetch=None, *, intervals, horizons,
                  eviction_ages, prefetch_intervals=(0, kPrefetchHorizon), contexts=()):
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
        model.intervals = word_vector(intervals)
        model.prefetch_intervals = word_vector(prefetch_intervals)
        model.horizons = word_vector(horizons)
        for rows, age in eviction_ages:
            model.eviction_ages.push_back(pair[uint32_t, double](rows, age))
        model.contexts = word_vector(contexts)

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        return make_learned(<shared_ptr[const c_PolicyModel]> self._model, options)
