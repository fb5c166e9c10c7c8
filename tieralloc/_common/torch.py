"""Import torch, or raise an error that names the package to install; run torch on one thread.

torch has one number of threads per thread, and a default for new threads. `torch.set_num_threads`
sets both. A thread adopts the default at its first operation or query, and then discards a number
that was set before. The functions here therefore query first.
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
    """Run torch on the calling thread only; also a decorator.

    Models this small gain almost nothing from a second thread. On a busy core they lose much,
    because each operation spins until its last thread finishes. Other threads keep their numbers
    of threads.
    """
    threads = torch.get_num_threads()
    _set_own_threads(1)
    try:
        yield
    finally:
        _set_own_threads(threads)


def keep_one_thread() -> None:
    """Run torch on the calling thread only, from now on; other threads keep their numbers.

    Repeated calls are cheap.
    """
    _set_own_threads(1)


def on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function that the core calls, so that torch runs on the calling thread only.

    On the main thread, each call restores the number of threads. Another thread, such as the
    background thread of a store, keeps the number one.
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
    if torch.get_num_threads() == threads:  # the query adopts the default for new threads
        return
    default = _in_new_thread(torch.get_num_threads)
    torch.set_num_threads(threads)
    _in_new_thread(lambda: torch.set_num_threads(default))


def _in_new_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]
