"""Access traces: record, read, write and generate the lookups of samples."""

from tieralloc.trace.formats import FORMATS, Format, read, write
from tieralloc.trace.popularity import (
    META_REUSE_SHARES,
    REUSE_BIN_EDGES,
    reuse_histogram,
    scaled_reuse_shares,
)
from tieralloc.trace.recorder import Recorder
from tieralloc.trace.synthetic import generate
from tieralloc.trace.trace import Trace

__all__ = [
    "FORMATS",
    "META_REUSE_SHARES",
    "REUSE_BIN_EDGES",
    "Format",
    "Recorder",
    "Trace",
    "generate",
    "read",
    "reuse_histogram",
    "scaled_reuse_shares",
    "write",
]
