# distutils: language = c++
"""Exceptions of Python functions that C++ calls."""

import sys

from cpython.exc cimport PyErr_SetInterrupt
from libcpp.string cimport string


cdef void describe_exception(string* error) noexcept:
    """Describe the Python exception in flight."""
    kind, value, _ = sys.exc_info()
    text = str(value).strip().splitlines()
    error[0] = f"{kind.__name__}: {text[-1] if text else ''}".encode()
    if issubclass(kind, KeyboardInterrupt):
        PyErr_SetInterrupt()  # again, for the caller; last, as any Python code would raise it
