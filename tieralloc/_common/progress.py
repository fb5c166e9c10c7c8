"""Progress bars on the terminal, by tqdm; none without tqdm or without a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

__all__ = ["Progress", "Report", "bar", "ignore", "silent", "waiting"]

_DELAY = 1.0  # seconds before a bar appears, and between updates of its time


class Report(Protocol):
    """Called with the number of units completed since the last call, and a status text."""

    def __call__(self, done: int, status: str = "", /) -> object: ...


class Progress(Protocol):
    """A function that opens a progress bar, such as `bar` or `silent`."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Report]: ...


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Report]:
    """Show nothing."""
    yield ignore


def ignore(done: int, status: str = "") -> None:
    """Show nothing; a `Report`."""


@contextmanager
def bar(what: str, total: int, unit: str) -> Iterator[Report]:
    """Show a progress bar on stderr for work that takes longer than a second.

    Parameters
    ----------
    what : str
        Description of the work.
    total : int
        Number of units.
    unit : str
        Name of the units.

    Yields
    ------
    Report
    """
    progress = _tqdm(desc=what, total=total, unit=f" {unit}", unit_scale=True, delay=_DELAY)
    if progress is None:
        yield ignore
        return

    def report(done: int, status: str = "") -> None:
        if status:
            progress.set_postfix_str(status, refresh=False)
        progress.update(done)

    with progress:
        yield report


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show the elapsed time of work without known progress, after the first second."""
    progress = _tqdm(desc=what, bar_format="{desc} ({elapsed})", delay=_DELAY)
    if progress is None:
        yield
        return
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(_DELAY):
            progress.update()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        with progress:
            yield
            stop.set()
            ticker.join()
    finally:
        stop.set()


def _tqdm(**options: Any) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(**options, file=sys.stderr, leave=False, dynamic_ncols=True)
