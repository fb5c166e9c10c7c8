"""A delta of arrays, and the result of applying one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tieralloc._common.files import naming, replacing
from tieralloc._common.numbers import as_integer, check_range
from tieralloc.delta.errors import TruncatedDeltaError
from tieralloc.delta.file import DeltaWriter
from tieralloc.delta.parts import MAX_VERSION, Part, split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

__all__ = ["AppliedDelta", "Delta"]


@dataclass(frozen=True, eq=False)
class Delta:
    """Changed rows of several tables, which lead a store from one version to the next.

    Parameters
    ----------
    version : int
        Version of the store once it has the rows, 1 and up; above `follows`.
    follows : int
        Version of the store before; 0: a store without deltas.
    parts : iterable of (str, (n,) integers, (n, embedding_dim) array or None)
        Name of a table, rows of it, and their values as of `Table.update`; None deletes the rows:
        they become zeros. An iterator is consumed once; more than 64 MiB of it wait in a temporary
        file beside the table file until all are there. Of a repeated row the last value counts.
    num_rows : int, optional
        Rows of all parts, so that an iterator that ends early is refused.

    Examples
    --------
    >>> delta = Delta(version=8, follows=7, parts=[("item", [3, 14], values), ("user", [5], None)])
    >>> store.apply(delta)
    AppliedDelta(version=8, rows=3, held_seconds=2.5e-05)
    """

    version: int
    follows: int
    parts: Iterable[tuple[str, ArrayLike, ArrayLike | None]]
    num_rows: int | None = None

    def __post_init__(self) -> None:
        follows = as_integer("follows", self.follows)
        check_range("follows", follows, 0, MAX_VERSION - 1)
        check_range("version", as_integer("version", self.version), follows + 1, MAX_VERSION)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the delta to a file, completely or not at all; `TieredStore.apply` reads it."""
        with replacing(path) as file, naming(path):
            writer = DeltaWriter(file, self.version, self.follows)
            for part in self._split():
                writer.add(*part)
            writer.end()

    def _split(self) -> Iterator[Part]:
        """Yield the parts, large ones in pieces."""
        total = 0
        for table, rows, values in self.parts:
            for part in split(table, rows, values):
                total += len(part[1])
                yield part
        if self.num_rows is not None and total != self.num_rows:
            raise TruncatedDeltaError(
                f"delta: from version {self.follows} to {self.version}: truncated; expected "
                f"{self.num_rows} rows, got {total}"
            )


@dataclass(frozen=True)
class AppliedDelta:
    """What `TieredStore.apply` did.

    Attributes
    ----------
    version : int
        Version of the store.
    rows : int
        Rows set or deleted.
    held_seconds : float
        Time for which lookups were held off, with the wait for calls that were under way.
    """

    version: int
    rows: int
    held_seconds: float
