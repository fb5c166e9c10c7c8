"""Check and repair the pages of a table file, and convert a file of format version 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tieralloc as ta
from tieralloc._common.progress import Progress, silent
from tieralloc._common.values import DECODED
from tieralloc.tiers import Mode

__all__ = ["Damage", "checkpoint_rows", "find_damage", "repair", "upgrade"]

#: Rows of the fast tier of a store that only copies rows; `fast_bytes` would have to hold orders.
_FAST_ROWS = 1 << 12

_PAGES = 1 << 13  # checked per call
_BYTES = 4 << 20  # converted per call

#: Returns rows of a table, as an array.
Rows = Callable[[ta.Table, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Damage:
    """The rows of a damaged page, ascending."""

    table: str
    rows: np.ndarray

    def __str__(self) -> str:
        rows = self.rows.tolist()
        if rows[-1] - rows[0] + 1 == len(rows):
            return f"table {self.table!r}, rows {rows[0]} to {rows[-1]}"
        return f"table {self.table!r}, rows {', '.join(map(str, rows))}"


def find_damage(store: ta.TieredStore, progress: Progress = silent) -> Iterator[Damage]:
    """Read every page of a store and yield the rows of damaged ones.

    Raises
    ------
    ValueError
        If the file's format has no checksums.
    """
    core = store._core
    for table in store.tables.values():
        pages, _, has_footer = core.pages(table.position)
        if not has_footer:
            raise ValueError(
                "file format version 1: its pages have no checksums; expected a file converted by "
                "tieralloc upgrade"
            )
        with progress(f"checking {table.name}", pages, "pages") as report:
            for first in range(0, pages, _PAGES):
                count = min(_PAGES, pages - first)
                for page in core.damaged_pages(table.position, first, count):
                    rows = core.rows_of_page(table.position, page)
                    yield Damage(table.name, rows.astype(np.int64))
                report(count)


def repair(store: ta.TieredStore, damage: Damage, rows: Rows) -> None:
    """Replace the rows of a damaged page; updates in the redo log stay."""
    table = store.table(damage.table)
    values = np.array(rows(table, damage.rows))
    raw = table.dtype in DECODED and values.dtype == np.uint8
    for i, row in enumerate(damage.rows):
        try:
            values[i] = table.lookup([row], raw=raw)[0]
        except OSError:
            continue
    table._load_rows(damage.rows, values, store._core)
    store._core.settle()


def checkpoint_rows(path: str) -> Rows:
    """Return the rows of a checkpoint: a tieralloc file, .npz, .safetensors, or torch's .pt.

    An array belongs to the table of its name, with or without ``.weight``, and with or without the
    names of the modules around it.
    """
    suffix = Path(path).suffix
    if suffix == ".npz":
        return _from_arrays(path, dict(np.load(path)))
    if suffix == ".safetensors":
        from safetensors.numpy import load_file

        return _from_arrays(path, load_file(path))
    if suffix in (".pt", ".pth", ".bin"):
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return _from_arrays(path, {name: value.detach() for name, value in state.items()})
    source = open_cold(path)

    def read(table: ta.Table, rows: np.ndarray) -> np.ndarray:
        own = source.table(table.name)
        _check_shape(path, table, *_shape(own))
        raw = table.dtype in DECODED and own.dtype == table.dtype
        return np.asarray(own.lookup(rows, raw=raw))

    return read


def _shape(table: ta.Table) -> tuple[int, int]:
    return table.num_embeddings, table.embedding_dim


def open_cold(path: str | os.PathLike[str], mode: Mode = "r") -> ta.TieredStore:
    """Open a file with a small fast tier that starts empty."""
    file = ta.File(path, mode=mode, warm_restart_interval=None)
    return ta.TieredStore(slow=file, fast_rows=_FAST_ROWS)


def _from_arrays(path: str, arrays: dict[str, np.ndarray]) -> Rows:
    def read(table: ta.Table, rows: np.ndarray) -> np.ndarray:
        names = [
            name for name in arrays if f".{name.removesuffix('.weight')}".endswith(f".{table.name}")
        ]
        if len(names) != 1:
            raise ValueError(
                f"{path}: expected one array of table {table.name!r}, got {names or 'none'}"
            )
        array = arrays[names[0]]
        _check_shape(path, table, *array.shape)
        return np.asarray(array[rows])

    return read


def _check_shape(path: str, table: ta.Table, *shape: int) -> None:
    if shape != _shape(table):
        raise ValueError(
            f"{path}: table {table.name!r}: expected shape {_shape(table)}, got {shape}"
        )


def upgrade(path: str, progress: Progress = silent) -> bool:
    """Convert a file of format version 1 to the present one; False if it has that already.

    The new file takes the place of the old one once it is complete and durable.

    Raises
    ------
    OSError
        If the disk lacks space for both files. The old file is unchanged.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.upgrade"
    with open_cold(path) as old:
        tables = old.tables.values()
        if all(old._core.pages(table.position)[2] for table in tables):
            return False
        try:
            with ta.TieredStore(temporary, mode="w", fast_bytes="16MiB") as new:
                for table in tables:
                    layout = (table.num_embeddings, table.embedding_dim, table.dtype)
                    with progress(f"converting {table.name}", len(table), "rows") as report:
                        new.create_table(table.name, *layout).load(_batches(table, report))
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return True


def _batches(table: ta.Table, report: Callable[[int], object]) -> Iterator[np.ndarray]:
    rows = max(1, _BYTES // (4 * table.embedding_dim))
    for first in range(0, len(table), rows):
        indices = np.arange(first, min(first + rows, len(table)))
        yield np.asarray(table.lookup(indices))
        report(len(indices))
