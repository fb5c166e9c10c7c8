"""Access traces: what samples look up, recorded, read, written, generated."""

from tieralloc.trace.trace import Trace

__all__ = ["Trace"]
