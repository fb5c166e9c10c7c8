"""Access traces: read, write and generate the lookups of samples."""

from typing import NoReturn

from tieralloc.errors import raise_renamed
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


def __getattr__(name: str) -> NoReturn:
    raise_renamed(AttributeError, f"tieralloc.trace.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
