# distutils: language = c++
"""The C++ core, called from Python: argument checks, buffers, errors; no logic."""

include "_errors.pxi"
include "_simulator.pxi"
include "_labels.pxi"
include "_guided.pxi"
include "_history.pxi"
include "_prefetcher.pxi"
include "_scored.pxi"
include "_rivals.pxi"
include "_store.pxi"
include "_numa.pxi"
include "_learn.pxi"
