# distutils: language = c++
"""C++ exceptions as Python exceptions: the handler of `except +raise_core_error`."""

import os

from libcpp.string cimport string


cdef extern from "base/error.hpp" namespace "tieralloc" nogil:
    cdef enum class ErrorKind "tieralloc::ErrorKind":
        none
        value
        index
        system
        memory
        other

    cdef cppclass ErrorReport:
        ErrorKind kind
        int code
        string message
        string path

    ErrorReport describe_current_error() noexcept


cdef int raise_core_error() except -1:
    """Raise the C++ exception in flight as the Python exception of its kind."""
    cdef ErrorReport report = describe_current_error()
    message = report.message.decode("utf-8", "replace")
    if report.kind == ErrorKind.value:
        raise ValueError(message)
    if report.kind == ErrorKind.index:
        raise IndexError(message)
    if report.kind == ErrorKind.memory:
        raise MemoryError(message)
    if report.kind == ErrorKind.system:
        if report.path.empty():
            raise OSError(report.code, message)
        raise OSError(report.code, message, os.fsdecode(<bytes>report.path))
    raise RuntimeError(message)
