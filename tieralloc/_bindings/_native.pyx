# distutils: language = c++
"""The C++ core, called from Python: argument checks, buffers, errors; no logic."""

include "_errors.pxi"
include "_labels.pxi"
include "_policy.pxi"
include "_simulator.pxi"
include "_store.pxi"
include "_numa.pxi"
