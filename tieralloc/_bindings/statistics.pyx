# distutils: language = c++
"""Statistics of the core as dicts, with no line per name."""

from libc.stdint cimport uint64_t
from libcpp cimport bool as c_bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from tieralloc._bindings.core.base cimport Statistics, StatisticValue, get_if
from tieralloc._bindings.core.store cimport c_all_statistics


cdef dict statistics_dict(const Statistics& statistics):
    cdef size_t i
    return {statistics[i].name.decode(): statistic_object(&statistics[i].value)
            for i in range(statistics.size())}


cdef object statistic_object(const StatisticValue* value):
    cdef const string* text
    if get_if[c_bool](value) != NULL:
        return get_if[c_bool](value)[0]
    if get_if[uint64_t](value) != NULL:
        return get_if[uint64_t](value)[0]
    if get_if[double](value) != NULL:
        return get_if[double](value)[0]
    if get_if[string](value) != NULL:
        text = get_if[string](value)
        return text[0].decode("utf-8", "surrogateescape")  # as the names of files
    if get_if[vector[int]](value) != NULL:
        return tuple(get_if[vector[int]](value)[0])
    if get_if[vector[uint64_t]](value) != NULL:
        return tuple(get_if[vector[uint64_t]](value)[0])
    if get_if[Statistics](value) != NULL:
        return statistics_dict(get_if[Statistics](value)[0])
    if get_if[vector[Statistics]](value) != NULL:
        return _dicts(get_if[vector[Statistics]](value))
    return None


cdef tuple _dicts(const vector[Statistics]* groups):
    cdef size_t i
    return tuple([statistics_dict(groups[0][i]) for i in range(groups.size())])


def all_statistics():
    """Every statistic of a store and of its policy, in nested dicts, with values of no meaning.

    The fields of `tieralloc.stats.StoreStats` are these.
    """
    return statistics_dict(c_all_statistics())
