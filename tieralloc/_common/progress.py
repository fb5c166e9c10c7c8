"""Progress of long work on stderr: tqdm's bars on a terminal, lines on a pipe or without tqdm."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

__all__ = ["Progress", "Report", "bar", "ignore", "silent", "ticking", "waiting"]

_DELAY = 1.0  # seconds before a bar appears, and between updates of its time
_INTERVAL = 3.0  # seconds between lines


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
    """Show on stderr how far work is that takes longer than a second.

    A progress bar on a terminal, by tqdm; otherwise a line every few seconds.

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
        lines = _Lines(what, total)
        yield lines.report
        lines.end()
        return

    def report(done: int, status: str = "") -> None:
        if status:
            progress.set_postfix_str(status, refresh=False)
        progress.update(done)

    with progress:
        yield report


@contextmanager
def ticking(report: Report) -> Iterator[None]:
    """Report nothing every second, so that the time of a bar goes on during one long step."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(_DELAY):
            report(0)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        stop.set()
        ticker.join()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show the elapsed time of work without known progress, as `bar` does."""
    progress = _tqdm(desc=what, bar_format="{desc} ({elapsed})", delay=_DELAY)
    lines = _Lines(what) if progress is None else None
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(_DELAY):
            progress.update() if lines is None else lines.report(0)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        with nullcontext() if progress is None else progress:
            yield
            stop.set()
            ticker.join()
    finally:
        stop.set()


class _Lines:
    """Prints a line on stderr every few seconds."""

    def __init__(self, what: str, total: int = 0) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._status = ""
        self._start = self._last = time.monotonic()

    def report(self, done: int, status: str = "") -> None:
        """Count units, and print a line if the last one is old."""
        self._done += done
        self._status = status or self._status
        if time.monotonic() - self._last >= _INTERVAL:
            self._print(f"{100 * self._done // self._total}%" if self._total else "")

    def end(self) -> None:
        """Print a last line if there was one before."""
        if self._last > self._start:
            self._print("done")

    def _print(self, state: str) -> None:
        self._last = time.monotonic()
        seconds = f"{self._last - self._start:.0f} s"
        parts = [part for part in (state, seconds, self._status) if part]
        print(f"{self._what}: {', '.join(parts)}", file=sys.stderr, flush=True)


def _tqdm(**options: Any) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(**options, file=sys.stderr, leave=False, dynamic_ncols=True)
