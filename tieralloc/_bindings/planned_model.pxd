from tieralloc._bindings.core.policy cimport LearnedOptions, MakePolicy


cdef class PlannedModel:
    cdef MakePolicy _maker(self, const LearnedOptions& options) except *
