"""Files of resident rows, 8 bytes each.

A file is a ZIP archive, not compressed: `about.json` has the format's version, the id of the store
and its tables; `rows` has the rows of all tables, numbered table after table, as uint64 in
little-endian order, the next victim first. The upper 16 bits of a row are its standing in the
eviction policy (``SavedRow`` in ``store/store.hpp``), or zeros; in version 1 always zeros.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from tieralloc._common.files import decoding, naming, replacing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from tieralloc.trace import Trace

__all__ = ["ResidentSet", "from_trace", "rows_of"]

_VERSION = 2
_MAX_ABOUT_BYTES = 16 << 20
_WORD = np.dtype("<u8")


@dataclass(frozen=True)
class ResidentSet:
    """Rows to bring into the fast tier.

    Attributes
    ----------
    tables : list of (str, int)
        Name and rows of each table, in order of creation.
    rows : (n,) uint64
        Rows of all tables, numbered table after table, with their standing if known; the next
        victim first.
    store_id : int
        Id of the file that the rows belong to; 0: any file.
    """

    tables: Sequence[tuple[str, int]]
    rows: NDArray[np.uint64]
    store_id: int = 0

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, completely or not at all."""
        about = {"version": _VERSION, "store_id": self.store_id, "tables": list(self.tables)}
        with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("about.json", json.dumps(about))
            with archive.open("rows", "w", force_zip64=True) as member:
                member.write(self.rows.astype(_WORD, copy=False).data)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ResidentSet:
        """Read a file that `write` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file, is damaged, or of a newer version.
        """
        with naming(path), open(path, "rb") as file, decoding(path, "file of resident rows"):
            size = os.fstat(file.fileno()).st_size
            with zipfile.ZipFile(file) as archive:
                about = json.loads(_member(archive, "about.json", _MAX_ABOUT_BYTES))
                rows = np.frombuffer(_member(archive, "rows", size), dtype=_WORD)
            if about["version"] not in (1, _VERSION):
                raise ValueError(f"version: expected 1 or {_VERSION}, got {about['version']!r}")
            tables = [(str(name), int(rows)) for name, rows in about["tables"]]
            return cls(tables, rows.astype(np.uint64, copy=False), int(about["store_id"]))

    def check(self, tables: Sequence[tuple[str, int]], store_id: int) -> None:
        """Raise ValueError unless the rows are of these tables, and of this store if of any."""
        if self.store_id not in (0, store_id):
            raise ValueError("rows of another version of the file")
        for position, (own, other) in enumerate(zip(self.tables, tables, strict=False)):
            if own != other:
                raise ValueError(f"table {position}: expected {other}, got {own}")
        if len(self.tables) != len(tables):
            raise ValueError(f"expected {len(tables)} tables, got {len(self.tables)}")


def from_trace(trace: Trace, until: float = 1.0) -> ResidentSet:
    """Return the rows of a part of a trace, from its start, in the order of their last access."""
    accesses = trace.accesses()
    accesses = accesses[: round(len(accesses) * until)][::-1]
    rows, positions = np.unique(accesses, return_index=True)
    in_order = rows[np.argsort(-positions)].astype(np.uint64)
    sizes = trace.num_embeddings.tolist()
    return ResidentSet(list(zip(trace.table_names, sizes, strict=True)), in_order)


def rows_of(
    source: Mapping[str, ArrayLike] | str | os.PathLike[str], tables: Sequence[tuple[str, int]]
) -> NDArray[np.uint64]:
    """Return the rows in a file, or those of a mapping, numbered table after table.

    Raises
    ------
    KeyError, IndexError
        If a table of the mapping, or a row of it, does not exist.
    TypeError
        If rows are no integers.
    OSError, ValueError
        As `read`; also if the file is of other tables.
    """
    if not isinstance(source, Mapping):
        resident = ResidentSet.read(source)
        try:
            resident.check(tables, resident.store_id)
        except ValueError as error:
            raise ValueError(f"{os.fspath(source)}: {error}") from None
        return resident.rows
    sizes = dict(tables)
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    parts = [np.empty(0, dtype=np.uint64)]
    for name, values in source.items():
        if name not in sizes:
            raise KeyError(f"table {name!r}: unknown; expected one of {', '.join(sizes)}")
        rows = np.asarray(values)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(
                f"rows of {name!r}: expected (n,) integers, got {rows.shape} {rows.dtype}"
            )
        outside = rows[(rows < 0) | (rows >= sizes[name])]
        if outside.size:
            raise IndexError(f"rows of {name!r}: expected 0 to {sizes[name] - 1}, got {outside[0]}")
        parts.append(rows.astype(np.uint64) + np.uint64(starts[name]))
    return np.concatenate(parts)


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > max_bytes:
        raise ValueError(f"{name}: expected at most {max_bytes} bytes, got {size}")
    return archive.read(name)
