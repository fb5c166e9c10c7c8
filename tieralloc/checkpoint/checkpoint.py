"""The slow tier of tables in files that others wrote, read where they are."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from tieralloc import _bindings
from tieralloc._bindings import limits
from tieralloc._common.numbers import check_range
from tieralloc._common.values import row_format
from tieralloc.checkpoint.npy import read_npy
from tieralloc.checkpoint.safetensors import read_safetensors
from tieralloc.checkpoint.tensor import open_source
from tieralloc.tiers import CoreOptions, Engine, check_reads, core_options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from tieralloc.checkpoint.tensor import SourceFile, Tensor

__all__ = ["Checkpoint", "JoinedRows", "RawRows"]

_MAX_STRIDE = (1 << 32) - 1

Path: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class RawRows:
    """Rows in a file of any format: `num_embeddings` rows from `offset` on, `stride` bytes apart.

    Parameters
    ----------
    path : path
        The file.
    num_embeddings, embedding_dim, dtype, row_bytes
        As for `TieredStore.create_table`; elements are little-endian.
    offset : int
        Bytes before the first row.
    stride : int, optional
        Bytes from one row to the next; by default those of a row.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid.
    """

    path: Path
    _: KW_ONLY
    num_embeddings: int
    embedding_dim: int | None = None
    dtype: DTypeLike | str = "float32"
    row_bytes: int | None = None
    offset: int = 0
    stride: int | None = None

    def __post_init__(self) -> None:
        check_range("num_embeddings", self.num_embeddings, 1, limits.MAX_TABLE_ROWS)
        check_range("offset", self.offset, 0, (1 << 63) - 1)
        if self.stride is not None:
            check_range("stride", self.stride, 1, _MAX_STRIDE)
        _ = self._kind, self._size

    @property
    def _kind(self) -> str:
        return row_format(self.dtype, self.embedding_dim, self.row_bytes, limits.MAX_DIM)[0]

    @property
    def _size(self) -> int:
        return row_format(self.dtype, self.embedding_dim, self.row_bytes, limits.MAX_DIM)[1]


#: Rows of a table: the name of a tensor, or rows of a file.
Rows: TypeAlias = "str | RawRows"


@dataclass(frozen=True)
class JoinedRows:
    """Rows whose bytes lie apart, such as weights and their scales: parts side by side.

    A row is read in one batch. It has dtype "bytes", or that of its parts' bytes together: float8
    elements and their scales are "float8_e4m3_float32_128" and the like, see `Table`.

    Parameters
    ----------
    parts : sequence
        The parts of a row in the order of its bytes. Each is a tensor, of one or two dimensions,
        `RawRows`, or a sequence of them, in row order. All have equally many rows.
    dtype : str
    embedding_dim : int, optional
        Elements per row, unless they are bytes.
    """

    parts: Sequence[Rows | Sequence[Rows]]
    _: KW_ONLY
    dtype: str = "bytes"
    embedding_dim: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.parts, (str, RawRows)) or len(self.parts) < 2:
            raise ValueError(f"parts: expected two or more, got {self.parts!r}")
        if (self.embedding_dim is None) != (self.dtype == "bytes"):
            raise ValueError(
                f"embedding_dim: expected one unless rows are bytes, got {self.embedding_dim} for "
                f"{self.dtype!r}"
            )
        if self.embedding_dim is not None:
            check_range("embedding_dim", self.embedding_dim, 1, limits.MAX_DIM)


@dataclass(frozen=True)
class Checkpoint:
    """Files that others wrote as the slow tier: ``TieredStore(slow=Checkpoint("*.safetensors"))``.

    Rows are read where they are. Nothing is copied, and the files are never written: without an
    `overlay`, calls that would change rows or tables raise `io.UnsupportedOperation`. Tables are
    tensors of safetensors files and arrays of .npy files, of two dimensions, or `RawRows` of any
    file. float32, float16, bfloat16 and float64 keep their dtype; rows of other elements, such as
    float8, are "bytes", or parts of `JoinedRows` with their scales.

    The files are not locked. A lookup that misses in a file that was truncated, written, deleted or
    replaced since the store was opened raises OSError with its path; other tables go on. A write
    that ends within some milliseconds of the file's former time of modification may go unseen.

    Parameters
    ----------
    files : path, or sequence of paths
        Files whose names end with ``.safetensors`` or ``.npy``, or patterns such as
        ``"model/*.safetensors"``. An array of a .npy file has the name of the file without suffix.
    tables : mapping, optional
        The rows of each table by its name: a tensor, `RawRows`, or a sequence of them, in row
        order, such as the shards of a table; or `JoinedRows`, which have no `overlay`. By default
        each tensor of two dimensions is a table of its name.
    overlay : path, optional
        File of the values of `Table.update`, made if it is missing; one store may open it. Lookups
        prefer these values, which are in DRAM, `DramStats.log_bytes`. They survive the end of the
        process, and a power cut after `TieredStore.flush`. A full overlay, of 64 MiB, is an OSError
        (ENOSPC). Other calls that write raise OSError (EROFS).
    engine : {"auto", "io_uring", "pread", "mmap"}
    queue_depth : int
    direct : bool
    prefetch_threads : int
        As for `File`.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid. `TieredStore` raises ValueError if a file is not of its format or
        is truncated, a tensor is missing or has no rows, the parts of a table differ, or the
        overlay is that of other tables; OSError if a file cannot be opened.

    Examples
    --------
    >>> slow = Checkpoint("model/*.safetensors", tables={"ngram": ["ngram.0", "ngram.1"]})
    >>> store = TieredStore(slow=slow, fast_bytes="64MiB")
    """

    files: Path | Sequence[Path] = field(default=(), hash=False)
    _: KW_ONLY
    tables: Mapping[str, Rows | Sequence[Rows] | JoinedRows] | None = field(
        default=None, hash=False
    )
    overlay: Path | None = None
    engine: Engine = "auto"
    queue_depth: int = 256
    direct: bool = True
    prefetch_threads: int = 1

    _in_memory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for path in self._patterns:
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(f"files: expected paths, got {path!r}")
        if self.tables is not None and not isinstance(self.tables, Mapping):
            raise TypeError(f"tables: expected rows by name, got {self.tables!r}")
        for name, rows in (self.tables or {}).items():
            for part in _all_parts(rows):
                if not isinstance(part, (str, RawRows)):
                    raise TypeError(f"tables: {name!r}: expected tensors or RawRows, got {part!r}")
            if isinstance(rows, JoinedRows) and self.overlay is not None:
                raise ValueError(f"overlay: expected tables without JoinedRows, got {name!r}")
        if not self._patterns and not self.tables:
            raise ValueError("files, tables: expected files, or RawRows as tables, got none")
        if self.overlay is not None and not isinstance(self.overlay, (str, os.PathLike)):
            raise TypeError(f"overlay: expected a path, got {self.overlay!r}")
        check_reads(self.engine, self.queue_depth, self.direct, self.prefetch_threads)

    @property
    def _patterns(self) -> Sequence[Path]:
        return (self.files,) if isinstance(self.files, (str, os.PathLike)) else self.files

    @property
    def _name(self) -> str:
        raw = [
            part.path
            for rows in (self.tables or {}).values()
            for part in _all_parts(rows)
            if isinstance(part, RawRows)
        ]
        return ", ".join(dict.fromkeys(os.fsdecode(path) for path in [*self._patterns, *raw]))

    @property
    def _read_only(self) -> bool:
        return self.overlay is None

    def __str__(self) -> str:
        return f"checkpoint:{self._name}"

    def _sources(self) -> _Sources:
        """Return the files and tables; reads the headers of the files."""
        sources = _Sources()
        for pattern in self._patterns:
            for path in _matches(os.fsdecode(pattern)):
                sources.add_tensors(path)
        chosen = self.tables
        if chosen is None:
            chosen = {
                name: name for name, each in sources.tensors.items() if _is_table(each.tensor)
            }
        for name, rows in chosen.items():
            sources.add_table(name, rows)
        if not sources.tables:
            raise ValueError(f"files: no tensor of two dimensions in {self._name}")
        return sources

    def _description(self) -> object:
        """Return what identifies the files and the tables; reads the headers of the files."""
        sources = self._sources()
        return list(sources.files.values()), sources.tables, sources.joined

    def _core_options(self) -> CoreOptions:
        """Return the core's options; reads the headers of the files."""
        sources = self._sources()
        return {
            **core_options(),
            "mode": "r",
            "checkpoint": _bindings.Checkpoint(
                os.fsencode(self._name),
                sources.files.values(),
                sources.tables,
                None if self.overlay is None else os.fsencode(self.overlay),
                sources.joined if sources.has_joined else (),
            ),
            "engine": self.engine,
            "direct": self.direct,
            "queue_depth": self.queue_depth,
            "prefetch_threads": self.prefetch_threads,
        }


#: Name, dim, dtype, stride, and pieces: file, offset, rows.
_Table: TypeAlias = "tuple[str, int, str, int, list[tuple[int, int, int]]]"


class _Stored(NamedTuple):
    """A tensor and the number of its file."""

    file: int
    tensor: Tensor


class _Piece(NamedTuple):
    """Rows of a table in one file, and their format."""

    kind: str
    size: int  # elements, or bytes of rows of bytes
    stride: int  # 0: rows lie side by side
    file: int
    offset: int
    rows: int


class _Sources:
    """The files of a checkpoint and their tensors.

    Attributes
    ----------
    files : dict
        The arguments of `_bindings.Checkpoint` by path, in the order of their numbers.
    tensors : dict
        Tensors by name.
    tables, joined : list
        The arguments of `_bindings.Checkpoint`; `joined` has all tables.
    has_joined : bool
        Whether some table has `JoinedRows`.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int, int, int]] = {}
        self.tensors: dict[str, _Stored] = {}
        self.tables: list[_Table] = []
        self.joined: list[tuple[str, int, str, list[int]]] = []
        self.has_joined = False

    def add_tensors(self, path: str) -> None:
        """Add the tensors of a file."""
        if path in self.files:
            return
        with open_source(path) as source:
            number = self._add(source)
            stem, suffix = os.path.splitext(os.path.basename(path))
            if suffix == ".npy":
                found = {stem: read_npy(source)}
            elif suffix == ".safetensors":
                found = read_safetensors(source)
            else:
                raise ValueError(
                    f"files: {path}: expected a name that ends with .safetensors or .npy; RawRows "
                    "describes other files"
                )
        for name, tensor in found.items():
            if name in self.tensors:
                first = list(self.files)[self.tensors[name].file]
                raise ValueError(f"files: tensor {name!r} is in {first} and in {path}")
            self.tensors[name] = _Stored(number, tensor)

    def add_table(self, name: str, rows: Rows | Sequence[Rows] | JoinedRows) -> None:
        """Add a table, or the parts of a joined one."""
        first = len(self.tables)
        if isinstance(rows, JoinedRows):
            self.has_joined = True
            self.tables += [self._table(name, _parts(part), True) for part in rows.parts]
        else:
            self.tables.append(self._table(name, _parts(rows), False))
        kind, dim = "bytes", 0
        if isinstance(rows, JoinedRows):
            kind, dim = rows.dtype, rows.embedding_dim or 0
        self.joined.append((name, dim, kind, list(range(first, len(self.tables)))))

    def _table(self, name: str, parts: Sequence[Rows], is_part: bool) -> _Table:
        if not 0 < len(name.encode()) <= limits.MAX_TABLE_NAME_BYTES or "\0" in name:
            raise ValueError(
                f"tables: expected names of 1 to {limits.MAX_TABLE_NAME_BYTES} bytes without NUL, "
                f"got {name!r}"
            )
        pieces = [self._piece(name, part, is_part) for part in parts]
        formats = {piece[:3] for piece in pieces}
        if len(formats) != 1:
            got = "; ".join(f"{size} x {kind}, stride {stride}" for kind, size, stride in formats)
            raise ValueError(
                f"tables: {name!r}: expected parts of one row format, got {got or None}"
            )
        kind, size, stride = formats.pop()
        return name, size, kind, stride, [(each.file, each.offset, each.rows) for each in pieces]

    def _piece(self, name: str, part: Rows, is_part: bool) -> _Piece:
        if isinstance(part, RawRows):
            with open_source(os.fsdecode(part.path)) as source:
                number = self._add(source)
            kind, size = part._kind, part._size
            return _Piece(kind, size, part.stride or 0, number, part.offset, part.num_embeddings)
        if part not in self.tensors:
            known = ", ".join(map(repr, list(self.tensors)[:8])) or "none"
            raise ValueError(f"tables: {name!r}: no tensor {part!r}; expected one of {known}")
        number, tensor = self.tensors[part]
        if is_part and len(tensor.shape) == 1:
            tensor = replace(tensor, shape=(*tensor.shape, 1))
        if not _is_table(tensor):
            raise ValueError(
                f"tables: {name!r}: expected a tensor of two dimensions, with whole bytes per row "
                f"and at most {limits.MAX_DIM} elements or bytes, got {part!r} of shape "
                f"{tensor.shape} and dtype {tensor.dtype}"
            )
        return _Piece(tensor.kind, _size(tensor), 0, number, tensor.offset, tensor.shape[0])

    def _add(self, source: SourceFile) -> int:
        """Return the number of a file."""
        stamp = (os.fsencode(source.path), source.inode, source.size, source.modified_ns)
        self.files.setdefault(source.path, stamp)
        return list(self.files).index(source.path)


def _parts(rows: Rows | Sequence[Rows]) -> Sequence[Rows]:
    return (rows,) if isinstance(rows, (str, RawRows)) else rows


def _all_parts(rows: Rows | Sequence[Rows] | JoinedRows) -> list[Rows]:
    parts = rows.parts if isinstance(rows, JoinedRows) else [rows]
    return [each for part in parts for each in _parts(part)]


def _is_table(tensor: Tensor) -> bool:
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        return False
    return tensor.shape[1] * tensor.item_bits % 8 == 0 and _size(tensor) <= limits.MAX_DIM


def _size(tensor: Tensor) -> int:
    """Return the elements of a row, or the bytes of a row of bytes."""
    dim = tensor.shape[1]
    return dim * tensor.item_bits // 8 if tensor.kind == "bytes" else dim


def _matches(pattern: str) -> list[str]:
    """Return the files of a pattern, sorted; the file of this very name if it exists."""
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern))
    if not found:
        raise FileNotFoundError(2, "no file matches the pattern", pattern)
    return found
