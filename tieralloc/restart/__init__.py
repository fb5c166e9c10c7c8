"""Warm restarts: the resident rows of a store, saved beside its file and brought back."""

from tieralloc.restart.resident_set import ResidentSet, from_trace

__all__ = ["ResidentSet", "from_trace"]
