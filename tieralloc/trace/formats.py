"""Trace files: the formats that are read and written, each one reader and one writer."""

from __future__ import annotations

import contextlib
import errno
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

from tieralloc.trace.trace import Trace, starts_of

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

GZIP_MAGIC = b"\x1f\x8b"
PICKLE_MAGIC = b"\x80"

_NPZ_ARRAYS = ("indices", "offsets", "lengths", "table_names", "num_embeddings")

#: A request of libCacheSim's oracleGeneral. The next access counts requests from 1, -1 for never.
ORACLE_GENERAL = np.dtype(
    [("time", "<u4"), ("object", "<u8"), ("size", "<u4"), ("next_access", "<i8")]
)


@dataclass(frozen=True)
class Format:
    """How a kind of trace file is known, read and written.

    Parameters
    ----------
    name : str
        What users call it.
    suffixes : tuple of str
        How the names of its files end, in lower case. The longest match decides.
    read : callable
        ``read(file, name) -> Trace``, of a file open for reading bytes. It may raise anything for
        a file that is not of the format; `tieralloc.trace.read` names the file.
    write : callable
        ``write(trace, file)``, into a file open for writing bytes.
    recognises : callable, optional
        ``recognises(path) -> bool``: whether the content bears the marks of this format. Without
        it the format has no marks, and only a suffix or the caller can name it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[IO[bytes], str], Trace]
    write: Callable[[Trace, IO[bytes]], None]
    recognises: Callable[[Path], bool] | None = None


def read(path: str | os.PathLike[str], format: str | None = None) -> Trace:
    """Read a trace, which is named as its file is, without the suffix.

    Parameters
    ----------
    path : str or path
        A file of one of `FORMATS`, known by its suffix, else by its content.
    format : str, optional
        The name of the format, whatever the suffix.

    Returns
    -------
    Trace
        A ``.pt`` file holds no table sizes: each table gets as many rows as its highest index
        needs. An oracleGeneral file holds neither tables nor samples: each request becomes a
        sample, and the objects, in ascending order of their ids, the rows of one table.

    Raises
    ------
    ValueError
        Where the file is not a sound one of its format, or no format is known for it.
    OSError
        Where the file cannot be read.
    ImportError
        Where a ``.pt`` file needs torch, which is not installed.
    """
    path = Path(path)
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path} is empty, expected a trace")
        file.seek(0)
        chosen = _format_named(format) if format is not None else _format_of(path)
        if chosen.recognises is not None and not chosen.recognises(path):
            raise ValueError(f"{path} is not a file of format {chosen.name}, as its content shows")
        try:
            return chosen.read(file, _stem(path, chosen))
        except Exception as error:
            # Decoders of hostile bytes raise nearly anything; an errno tells the disk's own errors,
            # but for EINVAL: a seek to where the bytes point, before the file.
            own = getattr(error, "errno", None) not in (None, errno.EINVAL)
            if isinstance(error, ImportError) or own:
                raise
            raise _unsound(path, chosen, error) from error


def write(trace: Trace, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a trace; a file that stands there already is replaced once the new one is whole.

    Parameters
    ----------
    trace : Trace
        What to write. Its name is not kept: a trace is named as its file.
    path : str or path
        Its suffix says the format.
    format : str, optional
        The name of the format, whatever the suffix: ``npz`` keeps everything; ``pt`` and
        ``pt.gz`` lose the names and sizes of the tables; ``oracleGeneral`` keeps the access
        stream alone.

    Raises
    ------
    ValueError
        Where no format is known for the suffix.
    OSError
        Where the file cannot be written; what stood there still does.
    ImportError
        Where a ``.pt`` file needs torch, which is not installed.
    """
    path = Path(path)
    chosen = _format_named(format) if format is not None else _format_of_suffix(path)
    if chosen is None:
        raise ValueError(f"{path} has a suffix of no trace format, expected {_known_suffixes()}")
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        with partial.open("xb") as file:
            chosen.write(trace, file)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _format_named(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"trace format {name!r} is unknown; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def _format_of_suffix(path: Path) -> Format | None:
    matches = [
        (len(suffix), known)
        for known in FORMATS.values()
        for suffix in known.suffixes
        if path.name.lower().endswith(suffix)
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _format_of(path: Path) -> Format:
    by_suffix = _format_of_suffix(path)
    if by_suffix is not None:
        return by_suffix
    for known in FORMATS.values():
        if known.recognises is not None and known.recognises(path):
            return known
    raise ValueError(
        f"{path} is of no known trace format, expected a name ending in {_known_suffixes()}"
    )


def _known_suffixes() -> str:
    return ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)


def _stem(path: Path, chosen: Format) -> str:
    for suffix in sorted(chosen.suffixes, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def _unsound(path: Path, chosen: Format, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return ValueError(f"{path} is no sound trace of format {chosen.name}: {reason}")


# npz: what tieralloc itself writes.


def _read_npz(file: IO[bytes], name: str) -> Trace:
    with np.load(file, allow_pickle=False) as arrays:
        missing = [array for array in _NPZ_ARRAYS if array not in arrays]
        if missing:
            raise ValueError(f"has no {', '.join(missing)}, expected {', '.join(_NPZ_ARRAYS)}")
        values = {array: arrays[array] for array in _NPZ_ARRAYS}
    names = values["table_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"table_names are of dtype {names.dtype} and shape {names.shape}, expected strings in"
            " one dimension"
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
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # hostile bytes raise them all
        return []


# Meta's tuple (indices, offsets, lengths) of tensors, table-major.


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "a .pt trace needs torch, which is not installed: pip install 'tieralloc[torch]'"
        ) from error
    return torch


def _read_pt(file: IO[bytes], name: str) -> Trace:
    loaded = _torch().load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, (tuple, list)) or len(loaded) != 3:
        raise ValueError("holds no tuple of three, expected (indices, offsets, lengths)")
    indices, offsets, lengths = (_to_array(value) for value in loaded)
    if lengths.ndim != 2:
        raise ValueError(f"lengths have shape {lengths.shape}, expected (T, B)")
    table_starts = starts_of(lengths.sum(axis=1)).tolist()
    pieces = (indices[a:b] for a, b in itertools.pairwise(table_starts))
    rows = [int(piece.max(initial=0)) + 1 for piece in pieces]
    names = [f"t{table}" for table in range(len(lengths))]
    return Trace(indices, offsets, lengths, names, np.array(rows, dtype=np.int64), name)


def _to_array(value: Any) -> NDArray[Any]:
    if not isinstance(value, _torch().Tensor):
        raise ValueError(f"holds a {type(value).__name__}, expected tensors")
    array = np.asarray(value.numpy())
    if array.dtype.kind not in "iu":
        raise ValueError(f"holds a tensor of dtype {array.dtype}, expected integers")
    return array


def _write_pt(trace: Trace, file: IO[bytes] | gzip.GzipFile) -> None:
    torch = _torch()
    # Copies: torch has no read-only tensors, and warns of arrays that are.
    arrays = (trace.indices, trace.offsets, trace.lengths)
    torch.save(tuple(torch.from_numpy(array.copy()) for array in arrays), file)


def _is_pt(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(1) == PICKLE_MAGIC:
            return True
    return any(member.endswith("data.pkl") for member in _zip_members(path))


def _read_pt_gz(file: IO[bytes], name: str) -> Trace:
    with gzip.GzipFile(fileobj=file) as unpacked:
        # Whole: torch seeks to and fro, which costs gzip a start from the beginning.
        return _read_pt(io.BytesIO(unpacked.read()), name)


def _write_pt_gz(trace: Trace, file: IO[bytes]) -> None:
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0, filename="") as packed:
        _write_pt(trace, packed)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


# libCacheSim's oracleGeneral: the access stream alone, with each object's next access.


def _read_oracle_general(file: IO[bytes], name: str) -> Trace:
    content = file.read()
    if len(content) % ORACLE_GENERAL.itemsize:
        raise ValueError(
            f"is {len(content)} bytes long, expected a multiple of {ORACLE_GENERAL.itemsize}"
        )
    requests = np.frombuffer(content, dtype=ORACLE_GENERAL)
    next_access = requests["next_access"]
    wrong = np.flatnonzero((next_access >= 0) & (next_access <= np.arange(len(requests))))
    if len(wrong):
        raise ValueError(
            f"request {wrong[0]} has its next access at {next_access[wrong[0]]}, expected a later"
            " one, or -1 for none"
        )
    objects, rows = np.unique(requests["object"], return_inverse=True)
    lengths = np.ones((1, len(rows)), dtype=np.int32)
    return Trace.from_lengths(rows, lengths, ["object"], [len(objects)], name)


def _write_oracle_general(trace: Trace, file: IO[bytes]) -> None:
    accesses = trace.accesses()
    requests = np.zeros(len(accesses), dtype=ORACLE_GENERAL)
    per_sample = trace.lengths.sum(axis=0, dtype=np.int64)
    # A clock that ticks once a sample, and objects of size 1, so that capacities count rows.
    requests["time"] = np.repeat(np.arange(trace.num_samples), per_sample)
    requests["object"] = accesses
    requests["size"] = 1
    requests["next_access"] = _next_accesses(accesses)
    file.write(requests.tobytes())


def _next_accesses(accesses: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Find the next access to the same row, counted from 1, or -1 where none follows."""
    order = np.argsort(accesses, kind="stable")
    again = accesses[order[:-1]] == accesses[order[1:]]
    following = np.full(len(accesses), -1, dtype=np.int64)
    following[order[:-1][again]] = order[1:][again] + 1
    return following


#: The formats by name. A further one is a reader, a writer and an entry here.
FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
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
