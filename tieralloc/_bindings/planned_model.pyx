# distutils: language = c++
"""The base class of models that run as policies."""

from tieralloc._bindings.core.policy cimport LearnedOptions, MakePolicy


cdef class PlannedModel:
    """A model that a store or a simulator runs: a `LearnedModel` or an `ExternalModel`."""

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        raise TypeError("expected a LearnedModel or an ExternalModel")
