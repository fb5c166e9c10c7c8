"""Trace files: one reader and one writer per format, and the choice of the format."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tieralloc._common.files import decoding, is_decoding_error, replacing
from tieralloc.trace.archives import check_arrays, read_tensors
from tieralloc.trace.trace import Trace, starts_of

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

GZIP_MAGIC = b"\x1f\x8b"
PICKLE_MAGIC = b"\x80"

#: Tables of a .pt trace without samples: their number takes no bytes.
_MAX_EMPTY_TABLES = 1 << 20

_NPZ_ARRAYS = ("indices", "offsets", "lengths", "table_names", "num_embeddings")

#: A request of libCacheSim's oracleGeneral. `next_access` numbers requests from 1; -1 means none.
ORACLE_GENERAL = np.dtype(
    [("time", "<u4"), ("object", "<u8"), ("size", "<u4"), ("next_access", "<i8")]
)


@dataclass(frozen=True)
class Format:
    """A trace file format: its name, its suffixes, its reader and its writer.

    Parameters
    ----------
    name : str
        The name of the format in arguments and errors.
    suffixes : tuple of str
        Suffixes of its file names, in lower case. The longest match decides.
    read : callable
        ``read(file, name) -> Trace``, from a file open for reading bytes. It may raise any
        exception for invalid content; `tieralloc.trace.read` adds the path.
    write : callable
        ``write(trace, file)``, to a file open for writing bytes.
    recognises : callable, optional
        ``recognises(path) -> bool``: whether the content has the signature of this format. None
        for a format without a signature: only the suffix or the caller selects it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[IO[bytes], str], Trace]
    write: Callable[[Trace, IO[bytes]], None]
    recognises: Callable[[Path], bool] | None = None


def read(path: str | os.PathLike[str], format: str | None = None) -> Trace:
    """Read a trace file; the trace gets the file name without its suffix as name.

    Parameters
    ----------
    path : str or path
        A file of one of `FORMATS`, determined by its suffix, otherwise by its content.
    format : str, optional
        The name of the format; overrides the suffix.

    Returns
    -------
    Trace
        A ``.pt`` file has no table sizes: each table gets one row more than its highest index.
        An oracleGeneral file has neither tables nor samples: each request becomes a sample, and
        the objects, in ascending order of their ids, become the rows of one table.

    Raises
    ------
    ValueError
        If the content is invalid, or the format is unknown.
    OSError
        If the file cannot be read.
    ImportError
        If a ``.pt`` file of torch before 1.6 needs torch, which is not installed.
    """
    path = Path(path)
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path}: the file is empty; expected a trace")
        file.seek(0)
        trace_format = _format_by_name(format) if format is not None else _detect_format(path)
        if trace_format.recognises is not None and not trace_format.recognises(path):
            raise ValueError(f"{path}: expected format {trace_format.name}, got other content")
        with decoding(path, f"{trace_format.name} trace"):
            return trace_format.read(file, _stem(path, trace_format))


def write(trace: Trace, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a trace file; replace an existing file atomically.

    Parameters
    ----------
    trace : Trace
        The file does not contain its name; `read` derives the name from the path.
    path : str or path
        The suffix determines the format.
    format : str, optional
        The name of the format; overrides the suffix. ``npz`` keeps everything; ``pt`` and
        ``pt.gz`` lose the names and sizes of the tables; ``oracleGeneral`` keeps only the access
        stream.

    Raises
    ------
    ValueError
        If no format has the suffix.
    OSError
        If the file cannot be written; an existing file stays unchanged.
    ImportError
        If a ``.pt`` file needs torch, which is not installed.
    """
    path = Path(path)
    trace_format = _format_by_name(format) if format is not None else _format_by_suffix(path)
    if trace_format is None:
        raise ValueError(
            f"{path}: unknown suffix of a trace file; expected one of {_all_suffixes()}"
        )
    with replacing(path) as file:
        trace_format.write(trace, file)


def _format_by_name(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name]


def _format_by_suffix(path: Path) -> Format | None:
    matches = [
        (len(suffix), trace_format)
        for trace_format in FORMATS.values()
        for suffix in trace_format.suffixes
        if path.name.lower().endswith(suffix)
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _detect_format(path: Path) -> Format:
    by_suffix = _format_by_suffix(path)
    if by_suffix is not None:
        return by_suffix
    for trace_format in FORMATS.values():
        if trace_format.recognises is not None and trace_format.recognises(path):
            return trace_format
    raise ValueError(
        f"{path}: unknown trace format; expected one of the suffixes {_all_suffixes()}"
    )


def _all_suffixes() -> str:
    return ", ".join(
        suffix for trace_format in FORMATS.values() for suffix in trace_format.suffixes
    )


def _stem(path: Path, trace_format: Format) -> str:
    for suffix in sorted(trace_format.suffixes, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


# npz: tieralloc's own format.


def _read_npz(file: IO[bytes], name: str) -> Trace:
    check_arrays(file, _NPZ_ARRAYS)
    with np.load(file, allow_pickle=False) as arrays:
        missing = [array for array in _NPZ_ARRAYS if array not in arrays]
        if missing:
            raise ValueError(f"missing {', '.join(missing)}; expected {', '.join(_NPZ_ARRAYS)}")
        values = {array: arrays[array] for array in _NPZ_ARRAYS}
    names = values["table_names"]
    # An array of empty strings takes no bytes, whatever its length.
    if names.ndim != 1 or names.dtype.kind != "U" or not names.itemsize:
        raise ValueError(
            f"table_names: expected a one-dimensional array of strings, got {names.dtype} of shape"
            f" {names.shape}"
        )
    return Trace(**{**values, "table_names": names.tolist()}, name=name)


def _write_npz(trace: Trace, file: IO[bytes]) -> None:
    np.savez_compressed(
        file,
        indices=trace.indices,
        offsets=trace.offsets,
        lengths=trace.lengths,
        table_names=np.array(trace.table_names, dtype=np.str_),
        num_embeddings=trace.num_embeddings,
    )


def _is_npz(path: Path) -> bool:
    return any(member.endswith(".npy") for member in _zip_members(path))


def _zip_members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:
        if not is_decoding_error(error):
            raise
        return []


# pt: Meta's tuple (indices, offsets, lengths) of tensors, table-major.


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "this .pt trace needs torch, which is not installed: pip install 'tieralloc[torch]'"
        ) from error
    return torch


def _read_pt(file: IO[bytes], name: str) -> Trace:
    is_legacy = file.read(1) == PICKLE_MAGIC
    file.seek(0)
    loaded = _read_legacy_pt(file) if is_legacy else read_tensors(file)
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 3:
        size = f" of {len(loaded)}" if isinstance(loaded, (tuple, list)) else ""
        raise ValueError(
            f"expected a tuple (indices, offsets, lengths), got a {type(loaded).__name__}{size}"
        )
    indices, offsets, lengths = (_to_array(value) for value in loaded)
    if lengths.ndim != 2:
        raise ValueError(f"lengths: expected shape (T, B), got {lengths.shape}")
    if not lengths.size and len(lengths) > _MAX_EMPTY_TABLES:
        raise ValueError(f"lengths: expected samples in {len(lengths)} tables, got none")
    table_starts = starts_of(lengths.sum(axis=1)).tolist()
    pieces = (indices[a:b] for a, b in itertools.pairwise(table_starts))
    rows = [int(piece.max(initial=0)) + 1 for piece in pieces]
    names = [f"t{table}" for table in range(len(lengths))]
    return Trace(indices, offsets, lengths, names, np.array(rows, dtype=np.int64), name)


def _read_legacy_pt(file: IO[bytes]) -> Any:
    """Read a file of torch before 1.6: a sequence of pickles."""
    torch = _torch()
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, (tuple, list)):
        return loaded
    for value in loaded:
        if isinstance(value, torch.Tensor) and value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"tensor of shape {tuple(value.shape)}: larger than its storage")
    return [value.numpy() if isinstance(value, torch.Tensor) else value for value in loaded]


def _to_array(value: Any) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"expected a tuple of tensors, got a {type(value).__name__} in it")
    if value.dtype.kind not in "iu":
        raise ValueError(f"expected tensors of integers, got {value.dtype}")
    return value


def _write_pt(trace: Trace, file: IO[bytes] | gzip.GzipFile) -> None:
    torch = _torch()
    # Copies, because torch has no read-only tensors and warns about read-only arrays.
    arrays = (trace.indices, trace.offsets, trace.lengths)
    torch.save(tuple(torch.from_numpy(array.copy()) for array in arrays), file)


def _is_pt(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(1) == PICKLE_MAGIC:
            return True
    return any(member.endswith("data.pkl") for member in _zip_members(path))


def _read_pt_gz(file: IO[bytes], name: str) -> Trace:
    with gzip.GzipFile(fileobj=file) as unpacked:
        # At once: readers seek backwards, and gzip then decompresses from the beginning.
        return _read_pt(io.BytesIO(unpacked.read()), name)


def _write_pt_gz(trace: Trace, file: IO[bytes]) -> None:
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0, filename="") as packed:
        _write_pt(trace, packed)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


# oracleGeneral of libCacheSim: only the access stream, with the next access of each object.


def _read_oracle_general(file: IO[bytes], name: str) -> Trace:
    content = file.read()
    if len(content) % ORACLE_GENERAL.itemsize:
        raise ValueError(
            f"expected a multiple of {ORACLE_GENERAL.itemsize} bytes, got {len(content)}"
        )
    requests = np.frombuffer(content, dtype=ORACLE_GENERAL)
    next_access = requests["next_access"]
    invalid = np.flatnonzero((next_access >= 0) & (next_access <= np.arange(len(requests))))
    if len(invalid):
        request = invalid[0]
        raise ValueError(
            f"request {request}: expected a later next access, or -1, got {next_access[request]}"
        )
    objects, rows = np.unique(requests["object"], return_inverse=True)
    lengths = np.ones((1, len(rows)), dtype=np.int32)
    return Trace.from_lengths(rows, lengths, ["object"], [len(objects)], name)


def _write_oracle_general(trace: Trace, file: IO[bytes]) -> None:
    accesses = trace.accesses()
    requests = np.zeros(len(accesses), dtype=ORACLE_GENERAL)
    per_sample = trace.lengths.sum(axis=0, dtype=np.int64)
    # Time counts samples; objects have size 1, so that capacities count rows.
    requests["time"] = np.repeat(np.arange(trace.num_samples), per_sample)
    requests["object"] = accesses
    requests["size"] = 1
    requests["next_access"] = _next_accesses(accesses)
    file.write(requests.tobytes())


def _next_accesses(accesses: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of the next access to the same row, counted from 1, or -1 for none."""
    order = np.argsort(accesses, kind="stable")
    is_same_row = accesses[order[:-1]] == accesses[order[1:]]
    next_accesses = np.full(len(accesses), -1, dtype=np.int64)
    next_accesses[order[:-1][is_same_row]] = order[1:][is_same_row] + 1
    return next_accesses


#: The formats by name. A new format needs a reader, a writer and an entry here.
FORMATS: dict[str, Format] = {
    trace_format.name: trace_format
    for trace_format in (
        Format("npz", (".npz",), _read_npz, _write_npz, _is_npz),
        Format("pt", (".pt",), _read_pt, _write_pt, _is_pt),
        Format("pt.gz", (".pt.gz",), _read_pt_gz, _write_pt_gz, _is_gzip),
        Format(
            "oracleGeneral",
            (".oraclegeneral", ".oraclegeneral.bin"),
            _read_oracle_general,
            _write_oracle_general,
        ),
    )
}
