"""Tensors in files, as the headers of the files describe them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["SourceFile", "Tensor", "open_source"]


@dataclass(frozen=True)
class Tensor:
    """A dense tensor in a file, in C order.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        As the file names it.
    kind : str
        The dtype of a table with such elements; "bytes" if the store does not interpret them.
    item_bits : int
        Bits per element.
    offset : int
        Of its first byte in the file.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str
    item_bits: int
    offset: int


@dataclass(frozen=True)
class SourceFile:
    """A regular file and its state when its header was read."""

    path: str
    file: BinaryIO
    inode: int
    size: int
    modified_ns: int


@contextmanager
def open_source(path: str) -> Iterator[SourceFile]:
    """Open a file to read its header.

    Raises
    ------
    OSError
        If the file cannot be opened, as a directory.
    ValueError
        If it is a device or a pipe.
    """
    # Without O_NONBLOCK, the open of a pipe would wait for a writer.
    with open(
        path, "rb", 0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    ) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: expected a regular file")
        yield SourceFile(path, file, status.st_ino, status.st_size, status.st_mtime_ns)
