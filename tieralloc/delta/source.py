"""Parts of a delta that are all there, so that they can be counted first and then applied."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._common.files import naming
from tieralloc.delta.delta import Delta
from tieralloc.delta.file import DeltaReader, DeltaWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tieralloc.delta.parts import Part

__all__ = ["Source", "opened"]

_MAX_BYTES = 64 << 20  # of an iterator's arrays in memory


@dataclass(frozen=True)
class Source:
    """A delta, with a name for errors."""

    name: str
    version: int
    follows: int
    #: Yields the parts, each time.
    parts: Callable[[], Iterator[Part]]

    def sizes(self) -> list[tuple[str, int]]:
        """Return the table and the number of rows of each part; checks a whole file."""
        return [(table, len(rows)) for table, rows, _ in self.parts()]


@contextmanager
def opened(
    delta: Delta | str | os.PathLike[str],
    check: Callable[[int, int, str], object],
    directory: str | None,
) -> Iterator[Source]:
    """Open a file, or collect the parts of a delta, in memory or in a temporary file.

    `check` gets version, version before, and name, before parts are read.
    """
    if isinstance(delta, Delta):
        check(delta.version, delta.follows, "delta")
        if isinstance(delta.parts, (list, tuple)):
            yield Source("delta", delta.version, delta.follows, delta._split)
            return
        with _collected(delta, directory) as parts:
            yield Source("delta", delta.version, delta.follows, parts)
        return
    name = os.fspath(delta)
    with naming(name), open(delta, "rb") as file:
        reader = DeltaReader(file, name)
        check(reader.version, reader.follows, name)
        yield Source(name, reader.version, reader.follows, reader.parts)


@contextmanager
def _collected(delta: Delta, directory: str | None) -> Iterator[Callable[[], Iterator[Part]]]:
    parts: list[Part] = []
    left = _MAX_BYTES
    stream = delta._split()
    for table, rows, values in stream:
        # An iterator may use the memory of its arrays again.
        parts.append((table, rows, None if values is None else np.array(values)))
        left -= rows.nbytes + (0 if values is None else values.nbytes)
        if left < 0:
            break
    else:
        yield lambda: iter(parts)
        return
    with tempfile.TemporaryFile(dir=directory, prefix="tieralloc-temp-") as file:
        writer = DeltaWriter(file, delta.version, delta.follows)
        for part in parts:
            writer.add(*part)
        parts.clear()
        for part in stream:
            writer.add(*part)
        writer.end()
        yield DeltaReader(file, "delta").parts
