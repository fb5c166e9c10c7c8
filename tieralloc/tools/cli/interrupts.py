"""Signals of the command line: Ctrl-C, SIGTERM and SIGHUP end a command within a second.

Python handles a signal between two bytecodes, so a long call of NumPy or of the core delays it. A
thread waits for the same signals; if the command has not ended after a moment, it removes the
temporary files and ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tieralloc._common.files import remove_temporaries

INTERRUPTED = 128 + signal.SIGINT
MESSAGE = "tieralloc: interrupted"
_GRACE = 0.7  # seconds

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(KeyboardInterrupt):
    """SIGINT; after a KeyboardInterrupt itself in `exec`, CPython ends by the signal at exit."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and SystemExit for the others, or end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise _Interrupted
        sys.exit(128 + number)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number in _SIGNALS if previous[number] is not signal.SIG_IGN]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, ended, caught), daemon=True)
    watcher.start()
    try:
        for number in caught:
            signal.signal(number, end)
        yield
    finally:
        ended.set()
        for number in caught:
            signal.signal(number, previous[number])
        signal.set_wakeup_fd(former)
        os.close(writer)  # ends the watcher
        watcher.join()
        os.close(reader)


def _watch(reader: int, ended: threading.Event, caught: list[signal.Signals]) -> None:
    while number := os.read(reader, 1):
        if number[0] in caught and not ended.wait(_GRACE):
            remove_temporaries()
            if number[0] == signal.SIGINT:
                print(MESSAGE, file=sys.stderr, flush=True)
            os._exit(128 + number[0])
