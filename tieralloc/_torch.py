"""torch, or an error that says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

try:
    import torch
except ImportError as error:
    raise ImportError(
        "learned policies need torch, which is not installed: pip install 'tieralloc[torch]'"
    ) from error

__all__ = ["one_thread", "torch"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the calling thread alone; decorates functions as well.

    Models this small gain next to nothing from a second thread. Where its core has other work to
    do they lose much: at every operation each thread waits for the last one, spinning.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
