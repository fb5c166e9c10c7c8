"""Deltas between two checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._common.files import decoding, naming, replacing
from tieralloc._common.progress import Progress, silent
from tieralloc._common.values import DECODED
from tieralloc.delta.delta import Delta
from tieralloc.delta.file import DeltaWriter
from tieralloc.delta.parts import split
from tieralloc.tools.check import open_cold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    import tieralloc as ta

__all__ = ["DeltaSummary", "make_delta"]

_BYTES = 4 << 20  # compared at a time


@dataclass(frozen=True)
class DeltaSummary:
    """The rows of a delta file.

    Attributes
    ----------
    version, follows : int
    changed, deleted : int
        Rows with new values, and rows that became zeros.
    """

    version: int
    follows: int
    changed: int
    deleted: int


@dataclass(frozen=True)
class _Array:
    """A table of a checkpoint; `read` returns rows [first, end)."""

    rows: int
    columns: int
    kind: str
    read: Callable[[int, int], NDArray[np.generic]]

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns} {self.kind}"


@dataclass(frozen=True)
class _Checkpoint:
    path: str
    tables: dict[str, _Array]
    version: int | None = None  #: of a table file


def make_delta(
    old: str,
    new: str,
    out: str,
    *,
    version: int | None = None,
    follows: int | None = None,
    progress: Progress = silent,
) -> DeltaSummary:
    """Write the rows that differ between two checkpoints, for `TieredStore.apply`.

    Rows of zeros in `new` are deleted. Tables of arrays have the names of the arrays, without
    ``.weight``; beside a table file, the name of the table that ends the array's name.

    Parameters
    ----------
    old, new : str
        Table files, .npz, or .safetensors.
    out : str
        The delta, written completely or not at all.
    version, follows : int, optional
        By default, those of table files; otherwise `follows` is 0, and `version` one more.
    progress : Progress, optional

    Raises
    ------
    ValueError
        If the checkpoints have other tables, or a table has another size or type, or the versions
        do not ascend. Nothing is written.
    """
    with _opened(old) as before, _opened(new) as after:
        pairs = _pairs(before, after)
        follows = follows if follows is not None else before.version or 0
        version = version if version is not None else max(after.version or 0, follows + 1)
        Delta(version, follows, [])  # checks the versions
        changed = deleted = 0
        with replacing(out) as file, naming(out):
            writer = DeltaWriter(file, version, follows)
            for name, (one, other) in pairs.items():
                for rows, values in _differences(name, one, other, progress):
                    changed += len(rows) if values is not None else 0
                    deleted += len(rows) if values is None else 0
                    for part in split(name, rows, values):
                        writer.add(*part)
            writer.end()
    return DeltaSummary(version, follows, changed, deleted)


def _pairs(old: _Checkpoint, new: _Checkpoint) -> dict[str, tuple[_Array, _Array]]:
    """Return the tables of both checkpoints by name."""
    if old.version is None and new.version is not None:
        old = _renamed(old, new)
    elif new.version is None and old.version is not None:
        new = _renamed(new, old)
    if set(old.tables) != set(new.tables):
        known = [", ".join(map(repr, sorted(side.tables))) or "none" for side in (old, new)]
        raise ValueError(
            f"{new.path}: expected the tables of {old.path}, {known[0]}; got {known[1]}"
        )
    for name, one in old.tables.items():
        other = new.tables[name]
        if str(one) != str(other):
            raise ValueError(f"{new.path}: table {name!r}: expected {one}, got {other}")
    return {name: (one, new.tables[name]) for name, one in old.tables.items()}


def _renamed(arrays: _Checkpoint, file: _Checkpoint) -> _Checkpoint:
    """Return the arrays with the names of a file's tables."""
    tables = {}
    for name in file.tables:
        found = [own for own in arrays.tables if f".{own}".endswith(f".{name}")]
        if len(found) != 1:
            raise ValueError(
                f"{arrays.path}: expected one array of table {name!r}, got {found or 'none'}"
            )
        tables[name] = arrays.tables[found[0]]
    return _Checkpoint(arrays.path, tables)


def _differences(
    name: str, old: _Array, new: _Array, progress: Progress
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.generic] | None]]:
    """Yield the rows that differ with their new values; of rows that are zeros now, None."""
    with progress(f"comparing {name}", new.rows, "rows") as report:
        step = max(1, _BYTES // max(1, new.read(0, 1).nbytes))
        for first in range(0, new.rows, step):
            end = min(first + step, new.rows)
            values = new.read(first, end)
            before, after = _bytes_of(old.read(first, end)), _bytes_of(values)
            is_changed = (before != after).any(axis=1)
            is_zero = ~after.any(axis=1)
            changed = np.flatnonzero(is_changed & ~is_zero)
            if len(changed):
                yield changed + first, values[changed]
            deleted = np.flatnonzero(is_changed & is_zero)
            if len(deleted):
                yield deleted + first, None
            report(end - first)


def _bytes_of(rows: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)


@contextmanager
def _opened(path: str) -> Iterator[_Checkpoint]:
    suffix = Path(path).suffix
    if suffix == ".npz":
        with open(path, "rb") as file, decoding(path, ".npz file"), np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        tables = {_name(name): _of_array(path, name, rows) for name, rows in arrays.items()}
        yield _Checkpoint(path, tables)
    elif suffix == ".safetensors":
        with _safetensors(path) as tables:
            yield _Checkpoint(path, tables)
    else:
        with open_cold(path) as store:
            tables = {name: _of_table(table) for name, table in store.tables.items()}
            yield _Checkpoint(os.fspath(path), tables, store.version)


def _name(array: str) -> str:
    return re.sub(r"\.weight$", "", array)


def _of_array(path: str, name: str, array: NDArray[np.generic]) -> _Array:
    _check_shape(path, name, array.shape)
    rows, dim = array.shape
    return _Array(rows, dim, array.dtype.name, lambda first, end: array[first:end])


def _of_table(table: ta.Table) -> _Array:
    raw = table.dtype in DECODED or table.dtype == "bytes"

    def read(first: int, end: int) -> NDArray[np.generic]:
        return np.asarray(table.lookup(np.arange(first, end), raw=raw))

    return _Array(table.num_embeddings, table.embedding_dim, table.dtype, read)


@contextmanager
def _safetensors(path: str) -> Iterator[dict[str, _Array]]:
    from safetensors import safe_open

    with decoding(path, "safetensors file"):
        opened: Any = safe_open(path, framework="np")  # type: ignore[no-untyped-call]
    with opened as file:
        names = list(file.keys())
        yield {_name(name): _of_slice(path, name, file.get_slice(name)) for name in names}


def _of_slice(path: str, name: str, rows: Any) -> _Array:
    shape = tuple(rows.get_shape())
    _check_shape(path, name, shape)
    return _Array(
        shape[0], shape[1], rows[0:1].dtype.name, lambda first, end: np.asarray(rows[first:end])
    )


def _check_shape(path: str, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{path}: array {name!r}: expected rows of a table, got shape {shape}")
