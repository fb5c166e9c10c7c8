# distutils: language = c++
"""Exceptions of Python functions that C++ calls."""

import sys

from cpython.exc cimport PyErr_SetInterrupt
from libcpp.string cimport string


cdef void describe_exception(string* error) noexcept:
    """Describe the Python exception in flight; the description is never empty."""
    error[0] = b"an exception"  # in case that describing it fails as well
    kind, value, _ = sys.exc_info()
    is_interrupt = issubclass(kind, KeyboardInterrupt)
    try:
        lines = str(value).strip().splitlines()
        text = lines[-1] if lines else ""
    except BaseException as failure:
        text = f"(its text raises {type(failure).__name__})"
        is_interrupt = is_interrupt or isinstance(failure, KeyboardInterrupt)
    error[0] = f"{kind.__name__}: {text}".encode("utf-8", "backslashreplace")
    if is_interrupt:
        PyErr_SetInterrupt()  # again, for the caller; last, as any Python code would raise it
