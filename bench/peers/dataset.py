"""The rows that every peer is loaded with, in a plain file of float32 on the disk measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tieralloc.tools.replay.source import SourceRows

_CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class Dataset:
    """Tables of one width, the rows of one after those of the other."""

    directory: Path
    table_rows: tuple[int, ...]
    dim: int
    unused_rows: int = 0  # the last ones, that no load asks for

    @property
    def path(self) -> Path:
        return self.directory / "rows.f32"

    @property
    def rows(self) -> int:
        return sum(self.table_rows)

    @property
    def row_bytes(self) -> int:
        return self.dim * 4

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """Where each table begins among all rows."""
        return np.cumsum((0, *self.table_rows[:-1]), dtype=np.int64)

    def write(self) -> None:
        """Make the file, once. Sums of the values are exact in float32, whatever the order."""
        self.directory.mkdir(parents=True, exist_ok=True)
        source = SourceRows(self.table_rows, self.dim)
        with self.path.open("wb") as file:
            for table in range(len(self.table_rows)):
                for part in source.parts(table):
                    file.write(part.tobytes())
        drop_page_cache(self.path)

    def chunks(self, first: int = 0, count: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Rows in order, some MiB at a time."""
        left = self.rows - first if count is None else count
        step = max(1, _CHUNK_BYTES // self.row_bytes)
        with self.path.open("rb") as file:
            file.seek(first * self.row_bytes)
            while left > 0:
                rows = min(step, left)
                values = np.fromfile(file, dtype=np.float32, count=rows * self.dim)
                yield values.reshape(rows, self.dim)
                left -= rows
        drop_page_cache(self.path)

    def table_chunks(self, table: int) -> Iterator[NDArray[np.float32]]:
        """Rows of one table in order, some MiB at a time."""
        return self.chunks(int(self.first_rows[table]), self.table_rows[table])


def drop_page_cache(path: Path) -> None:
    """Make a file cold: write it out and drop the kernel's copies, but for mapped pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
