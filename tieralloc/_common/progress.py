"""Progress on the terminal: by tqdm where it is installed, none where nobody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

__all__ = [
    "Narrate",
    "Narration",
    "Progress",
    "Report",
    "bar",
    "narrated",
    "silent",
    "unheard",
    "waiting",
]

#: Called with the number of things done since the last call.
Report = Callable[[int], object]
#: Called with that number, and with how it goes in words.
Narrate = Callable[[int, str], object]

_PATIENCE = 1.0  # seconds without a sign of life


class Progress(Protocol):
    """Opens a bar for a piece of work, such as `bar` or `silent`."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Report]: ...


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Report]:
    """Show nothing."""
    yield lambda _: None


@contextmanager
def bar(what: str, total: int, unit: str) -> Iterator[Report]:
    """Show a bar on stderr while work goes on that takes longer than a second.

    Parameters
    ----------
    what : str
        The work, in the words of a person.
    total : int
        Things to be done.
    unit : str
        What these are.

    Yields
    ------
    callable
        To be called with the number of things done since its last call.
    """
    made = _tqdm(desc=what, total=total, unit=f" {unit}", unit_scale=True, delay=_PATIENCE)
    if made is None:
        yield lambda _: None
        return
    with made:
        yield made.update


class Narration(Protocol):
    """Opens a bar that says how it goes, such as `narrated` or `unheard`."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Narrate]: ...


@contextmanager
def unheard(what: str, total: int, unit: str) -> Iterator[Narrate]:
    """Show nothing."""
    yield lambda done, state: None


@contextmanager
def narrated(what: str, total: int, unit: str) -> Iterator[Narrate]:
    """Show a bar as `bar` does, with words after it.

    Yields
    ------
    callable
        To be called with the number of things done since its last call, and the words.
    """
    made = _tqdm(desc=what, total=total, unit=f" {unit}", unit_scale=True, delay=_PATIENCE)
    if made is None:
        yield lambda done, state: None
        return

    def report(done: int, state: str) -> None:
        made.set_postfix_str(state, refresh=False)
        made.update(done)

    with made:
        yield report


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show the time that work takes which cannot say how far it is, once it exceeds a second."""
    shown = _tqdm(desc=what, bar_format="{desc} ({elapsed})", delay=_PATIENCE)
    if shown is None:
        yield
        return
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_PATIENCE):
            shown.update()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        with shown:
            yield
            ended.set()
            ticker.join()
    finally:
        ended.set()


def _tqdm(**options: Any) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(**options, file=sys.stderr, leave=False, dynamic_ncols=True)
