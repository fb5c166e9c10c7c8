"""Access traces: what samples look up, recorded, read, written, generated."""

from tieralloc.trace.formats import FORMATS, Format, read, write
from tieralloc.trace.recorder import Recorder
from tieralloc.trace.trace import Trace

__all__ = ["FORMATS", "Format", "Recorder", "Trace", "read", "write"]
