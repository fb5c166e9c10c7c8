"""Stores that a program did not close, and its exit status if they cannot be closed.

Python ignores exceptions of objects that are destroyed and of functions at exit. It documents one
exception (`sys.exit`): status 120 if the standard streams cannot be flushed at the end. `fail_exit`
makes that flush fail, after all functions at exit have run.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Protocol

__all__ = ["close_at_exit", "fail_exit"]

_LOG = logging.getLogger("tieralloc")


class _FailingStream:
    """A stream whose last flush, by the interpreter that ends, fails."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()
        if sys.is_finalizing():
            raise OSError("a store was not closed, and could not be closed; exit status 120")


def fail_exit() -> None:
    """Make the interpreter exit with status 120, whatever status it would exit with."""
    if not isinstance(sys.stdout, _FailingStream):
        sys.stdout = _FailingStream(sys.stdout)


class _Closable(Protocol):
    @property
    def belongs_here(self) -> bool: ...
    @property
    def path(self) -> str | None: ...
    def close(self) -> None: ...


def close_at_exit(store: _Closable) -> None:
    """Close a store; log a failure and make the interpreter exit with status 120."""
    if not store.belongs_here:
        return
    try:
        store.close()
    except Exception as error:
        _LOG.error(
            "%s: the store was not closed before its end, and closing it failed; updates may not "
            "be in the file: %s: %s",
            store.path,
            type(error).__name__,
            error,
        )
        fail_exit()
