"""Access traces: read, write and generate the lookups of samples."""

from typing import TYPE_CHECKING

from tieralloc.trace.formats import FORMATS, Format, read, write
from tieralloc.trace.popularity import (
    META_REUSE_SHARES,
    REUSE_BIN_EDGES,
    reuse_histogram,
    scaled_reuse_shares,
)
from tieralloc.trace.synthetic import generate
from tieralloc.trace.trace import Trace

__all__ = [
    "FORMATS",
    "META_REUSE_SHARES",
    "REUSE_BIN_EDGES",
    "Format",
    "Trace",
    "generate",
    "read",
    "reuse_histogram",
    "scaled_reuse_shares",
    "write",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "Recorder":
            raise AttributeError("tieralloc.trace.Recorder: use TieredStore.record")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
