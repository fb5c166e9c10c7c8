from tieralloc._bindings.core.base cimport Statistics, StatisticValue


cdef dict statistics_dict(const Statistics& statistics)
cdef object statistic_object(const StatisticValue* value)
