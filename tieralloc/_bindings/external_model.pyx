# distutils: language = c++
"""Models whose decisions a Python function makes."""

from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

import numpy as np

from tieralloc._bindings.arguments cimport row_vector
from tieralloc._bindings.callbacks cimport describe_exception
from tieralloc._bindings.core.policy cimport ExternalDecisions, LearnedOptions, MakePolicy
from tieralloc._bindings.planned_model cimport PlannedModel


cdef extern from *:
    """
    #include <memory>
    #include <span>
    #include <stdexcept>
    #include <string>
    #include <vector>

    #include "policy/external_policy.hpp"
    #include "policy/model.hpp"

    namespace {

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
    ctypedef void (*DecideInPython)(PyObject* call, const uint64_t* rows, size_t n,
                                    ExternalDecisions* decisions, string* error) noexcept
    MakePolicy external_policy(PyObject* call, uint32_t eviction_speed, uint32_t chunk,
                               vector[uint64_t] table_starts, size_t model_bytes,
                               size_t max_bytes, DecideInPython decide)


cdef void _decide_in_python(PyObject* call, const uint64_t* rows, size_t n,
                            ExternalDecisions* decisions, string* error) noexcept with gil:
    cdef const uint8_t[::1] keep
    try:
        kept, prefetches = (<object> call)(np.asarray(<const uint64_t[:n]> <uint64_t*> rows))
        keep = np.ascontiguousarray(kept, dtype=np.bool_).view(np.uint8)
        if keep.shape[0] > 0:
            decisions.keep.assign(&keep[0], &keep[0] + keep.shape[0])
        decisions.prefetches = row_vector(prefetches)
    except BaseException:
        describe_exception(error)


cdef class ExternalModel(PlannedModel):
    """Decisions of a Python function, chunk by chunk; each takes effect when it returns.

    ``decide(rows) -> keep, prefetches``: rows are whole chunks of `chunk` accesses, (n,) uint64,
    valid during the call; keep: whether each row gets the highest priority, (n,) bool; prefetches:
    rows to prefetch, (any,) uint64. A row of the ordinary priority survives `eviction_speed`
    decrements of all priorities, at most 254. `nbytes` is the memory of `decide`.

    `decide` numbers the rows of table ``t`` from ``table_starts[t]`` to ``table_starts[t + 1] -
    1``; without starts as the tier does: all tables must share one. A simulator or a store raises
    ValueError for a model that does not fit.
    """

    def __cinit__(self, decide, *, uint32_t chunk, uint32_t eviction_speed, table_starts=(),
                  size_t nbytes=0):
        starts = np.asarray(table_starts, dtype=np.int64)
        if len(starts) > 0 and (starts[0] != 0 or (np.diff(starts) < 0).any()):
            raise ValueError(f"table_starts: expected to ascend from 0, got {starts.tolist()}")
        self._decide, self._chunk, self._eviction_speed = decide, chunk, eviction_speed
        self._table_starts = row_vector(starts)
        self._nbytes = nbytes

    cdef MakePolicy _maker(self, const LearnedOptions& options) except *:
        return external_policy(<PyObject*> self._decide, self._eviction_speed, self._chunk,
                               self._table_starts, self._nbytes, options.max_bytes,
                               _decide_in_python)
