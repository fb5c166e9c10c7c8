# distutils: language = c++
"""Fetch engines and instruction sets of this machine."""

from tieralloc._bindings.core.kernels cimport c_kernel_isa
from tieralloc._bindings.core.slow_tier cimport c_fetch_engine_names, c_fetch_engine_refusal


def fetch_engines():
    """Engines that read a file's rows, the best first, each with why it cannot run here, or ''."""
    return {name.decode(): c_fetch_engine_refusal(name).decode() for name in c_fetch_engine_names()}


def kernel_isa():
    """The instruction set of the pooling kernels on this processor."""
    return c_kernel_isa().decode()
