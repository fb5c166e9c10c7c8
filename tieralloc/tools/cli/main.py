"""The ``tieralloc`` command: runs a subcommand, and tells its failures in a line."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from tieralloc.tools.cli.parser import BAD_INPUT, make_parser
from tieralloc.tools.replay.callers import VerificationError

_FAILED = 1
_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    command = ""
    try:
        with _terminable():
            arguments = make_parser().parse_args(argv)
            command = arguments.command
            arguments.run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough: no failure worth a word.
        _forget_stdout()
        return _FAILED
    except OSError as error:
        _forget_stdout()
        return _fail(_in_words(error, command), _FAILED)
    except (MemoryError, ImportError, VerificationError) as error:
        return _fail(str(error) or "out of memory", _FAILED)
    except ValueError as error:
        return _fail(str(error), BAD_INPUT)
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite signal end the command as an error does, temporary files being removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _fail(message: str, status: int) -> int:
    first = " ".join(message.split())
    print(f"tieralloc: {first if status == _INTERRUPTED else f'error: {first}'}", file=sys.stderr)
    return status


def _in_words(error: OSError, command: str) -> str:
    text = error.strerror or str(error)
    if error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {text}"
    if error.errno == errno.ENOSPC and command in ("demo", "replay"):
        text += " (--dir puts the file elsewhere)"
    return text


def _forget_stdout() -> None:
    """Keep the interpreter from flushing to a stdout that takes no more, and complaining."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
