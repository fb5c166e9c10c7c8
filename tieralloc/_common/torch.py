"""torch, or an error that says what to install; and torch on one thread.

torch keeps one number of threads per thread, and one for threads to come. `torch.set_num_threads`
sets both. A thread takes up the latter at its first operation or query, and so discards a number
that was set on it before: the functions here query first.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

try:
    import torch
except ImportError as error:
    raise ImportError(
        "learned policies need torch, which is not installed: pip install 'tieralloc[torch]'"
    ) from error

__all__ = ["keep_one_thread", "on_one_thread", "one_thread", "torch"]

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the calling thread alone; decorates functions as well.

    Models this small gain next to nothing from a second thread. Where its core has other work to
    do they lose much: at every operation each thread waits for the last one, spinning. Other
    threads keep their numbers of threads.
    """
    threads = torch.get_num_threads()
    _set_own_threads(1)
    try:
        yield
    finally:
        _set_own_threads(threads)


def keep_one_thread() -> None:
    """Compute on the calling thread alone from now on; other threads keep their numbers.

    Cheap where that is so already.
    """
    _set_own_threads(1)


def on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap what the core calls: it computes on the calling thread alone.

    The main thread gets its number of threads back after each call. Any other thread keeps one, as
    the background thread of a store should.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if threading.get_ident() == threading.main_thread().ident:
            with one_thread():
                return function(*args, **kwargs)
        keep_one_thread()
        return function(*args, **kwargs)

    return wrapped


def _set_own_threads(threads: int) -> None:
    """Set the number of threads of the calling thread only."""
    if torch.get_num_threads() == threads:  # which takes up the number for threads to come
        return
    to_come = _in_new_thread(torch.get_num_threads)
    torch.set_num_threads(threads)
    _in_new_thread(lambda: torch.set_num_threads(to_come))


def _in_new_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]
