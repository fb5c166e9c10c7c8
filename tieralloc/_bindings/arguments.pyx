# distutils: language = c++
"""Names as enumerators of the core, sequences as vectors, vectors as arrays."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

import numpy as np

from tieralloc._bindings.core.base cimport DType
from tieralloc._bindings.core.kernels cimport Mode
from tieralloc._bindings.core.slow_tier cimport Durability, FileMode, PromotionRule, Residency
from tieralloc._bindings.core.store cimport Accesses, BoundsCheck


cdef dict _DTYPES = {
    "float32": <int>DType.float32,
    "float16": <int>DType.float16,
    "bfloat16": <int>DType.bfloat16,
    "float64": <int>DType.float64,
    "int8": <int>DType.int8,
    "int4": <int>DType.int4,
    "bytes": <int>DType.bytes,
    "float8_e4m3_ue8m0_32": <int>DType.e4m3_ue8m0_32,
    "float8_e4m3_ue8m0_64": <int>DType.e4m3_ue8m0_64,
    "float8_e4m3_ue8m0_128": <int>DType.e4m3_ue8m0_128,
    "float8_e4m3_float32_32": <int>DType.e4m3_float32_32,
    "float8_e4m3_float32_64": <int>DType.e4m3_float32_64,
    "float8_e4m3_float32_128": <int>DType.e4m3_float32_128,
}
cdef dict _DTYPE_NAMES = {code: name for name, code in _DTYPES.items()}
cdef dict _MODES = {"sum": <int>Mode.sum, "mean": <int>Mode.mean, "max": <int>Mode.max}
cdef dict _BOUNDS = {
    "fatal": <int>BoundsCheck.fatal,
    "warning": <int>BoundsCheck.warning,
    "default": <int>BoundsCheck.default_row,
}
cdef dict _ACCESSES = {
    "recorded": <int>Accesses.recorded,
    "unrecorded": <int>Accesses.unrecorded,
    "only_recorded": <int>Accesses.only_recorded,
}
cdef dict _PROMOTIONS = {
    "auto": <int>PromotionRule.automatic,
    "always": <int>PromotionRule.always,
    "never": <int>PromotionRule.never,
}
cdef dict _RESIDENCIES = {
    "auto": <int>Residency.automatic,
    True: <int>Residency.always,
    False: <int>Residency.never,
}
cdef dict _DURABILITIES = {
    "none": <int>Durability.none,
    "flush": <int>Durability.flush,
    "commit": <int>Durability.commit,
}
cdef dict _FILE_MODES = {
    "r": <int>FileMode.read,
    "r+": <int>FileMode.update,
    "a": <int>FileMode.append,
    "w": <int>FileMode.write,
}


cdef int _choice(dict choices, object name, str what) except -1:
    try:
        return choices[name]
    except (KeyError, TypeError):
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{what}: expected one of {known}, got {name!r}") from None


cdef DType dtype_of(object name) except *:
    return <DType>_choice(_DTYPES, name, "dtype")


cdef object dtype_name(DType dtype):
    return _DTYPE_NAMES[<int>dtype]


cdef Mode mode_of(object name) except *:
    return <Mode>_choice(_MODES, name, "mode")


cdef BoundsCheck bounds_of(object name) except *:
    return <BoundsCheck>_choice(_BOUNDS, name, "bounds_check_mode")


cdef Accesses accesses_of(object name) except *:
    return <Accesses>_choice(_ACCESSES, name, "accesses")


cdef Durability durability_of(object name) except *:
    return <Durability>_choice(_DURABILITIES, name, "durability")


cdef FileMode file_mode_of(object name) except *:
    return <FileMode>_choice(_FILE_MODES, name, "mode")


cdef PromotionRule promotion_of(object name) except *:
    return <PromotionRule>_choice(_PROMOTIONS, name, "promotion")


cdef Residency residency_of(object choice) except *:
    return <Residency>_choice(_RESIDENCIES, choice, "resident")


cdef object residency_choice(Residency residency):
    return next(choice for choice, value in _RESIDENCIES.items() if value == <int>residency)


cdef vector[uint32_t] word_vector(object values) except *:
    cdef const uint32_t[::1] words = np.ascontiguousarray(values, dtype=np.uint32)
    cdef vector[uint32_t] copied
    if words.shape[0] > 0:
        copied.assign(&words[0], &words[0] + words.shape[0])
    return copied


cdef vector[uint64_t] row_vector(object values) except *:
    cdef const uint64_t[::1] rows = np.ascontiguousarray(values, dtype=np.uint64)
    cdef vector[uint64_t] copied
    if rows.shape[0] > 0:
        copied.assign(&rows[0], &rows[0] + rows.shape[0])
    return copied


cdef vector[float] float_vector(object values) except *:
    cdef const float[::1] floats = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    cdef vector[float] copied
    if floats.shape[0] > 0:
        copied.assign(&floats[0], &floats[0] + floats.shape[0])
    return copied


cdef object row_array(const vector[uint64_t]& rows):
    array = np.empty(rows.size(), dtype=np.uint64)
    cdef uint64_t[::1] view = array
    if rows.size() > 0:
        memcpy(&view[0], rows.data(), rows.size() * sizeof(uint64_t))
    return array


cdef object word_array(const vector[uint32_t]& words):
    array = np.empty(words.size(), dtype=np.uint32)
    cdef uint32_t[::1] view = array
    if words.size() > 0:
        memcpy(&view[0], words.data(), words.size() * sizeof(uint32_t))
    return array
