# distutils: language = c++
"""The C++ core, called from Python: argument checks, buffers, errors; no logic."""

include "_simulator.pxi"
