from libcpp.memory cimport shared_ptr

from tieralloc._bindings.core.policy cimport c_PolicyModel
from tieralloc._bindings.planned_model cimport PlannedModel


cdef class LearnedModel(PlannedModel):
    cdef shared_ptr[c_PolicyModel] _model
