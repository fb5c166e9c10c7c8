"""Rows of checkpoints on disk, read some MiB at a time: memory does not grow with the checkpoint.

Four kinds, each as places of rows in files, which are read by one function:

- safetensors: a file, or a folder of shards;
- `torch.save`: a file, whose pickle is loaded with fake tensors, so that no weight is read;
- torch.distributed.checkpoint: a folder; each shard is a `torch.save` inside a file;
- npy: a folder with a file per tensor, of the name of its key.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from tieralloc.checkpoint.safetensors import read_safetensors
from tieralloc.checkpoint.tensor import open_source

_CHUNK_BYTES = 4 << 20
_HASHED_BYTES = 64 << 10  # at both ends of a file
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("", *(f"{name}." for name in _NESTED), "module.")


@dataclass(frozen=True)
class _Part:
    """Consecutive rows of a tensor, dense in a file."""

    first: int
    rows: int
    path: Path
    offset: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the files of a checkpoint."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: tuple[_Part, ...]  # in row order, without gaps

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def chunks(self, first: int, last: int) -> Iterator[Tensor]:
        """Yield the rows from `first` to `last`, some MiB at a time."""
        step = max(1, _CHUNK_BYTES // max(1, self.row_bytes))
        for part in self.parts:
            begin, end = max(first, part.first), min(last, part.first + part.rows)
            if begin >= end:
                continue
            with open(part.path, "rb", buffering=0) as file:
                for row in range(begin, end, step):
                    rows = min(step, end - row)
                    yield self._read(file, part, row, rows)

    def _read(self, file: BinaryIO, part: _Part, row: int, rows: int) -> Tensor:
        num_bytes = rows * self.row_bytes
        raw = torch.empty(num_bytes, dtype=torch.uint8, device="cpu")
        values: Any = raw.numpy()
        view = memoryview(values)
        begin = part.offset + (row - part.first) * self.row_bytes
        done = 0
        while done < num_bytes:
            got = os.preadv(file.fileno(), [view[done:]], begin + done)
            if got == 0:
                raise ValueError(f"{part.path}: truncated; expected {begin + num_bytes} bytes")
            done += got
        # The pages of the file will not be read again.
        os.posix_fadvise(file.fileno(), begin, num_bytes, os.POSIX_FADV_DONTNEED)
        return raw.view(self.dtype).reshape(rows, *self.shape[1:])

    def narrow(self, first: int, last: int) -> StoredTensor:
        """Return the rows from `first` to `last` as a tensor."""
        parts = []
        for part in self.parts:
            begin, end = max(first, part.first), min(last, part.first + part.rows)
            if begin < end:
                offset = part.offset + (begin - part.first) * self.row_bytes
                parts.append(_Part(begin - first, end - begin, part.path, offset))
        return StoredTensor((last - first, *self.shape[1:]), self.dtype, tuple(parts))

    def read(self) -> Tensor:
        """Return the whole tensor."""
        rows = self.shape[0] if self.shape else 1
        chunks = list(self.chunks(0, rows))
        values = torch.cat(chunks) if chunks else torch.empty(0, dtype=self.dtype)
        return values.reshape(self.shape)


class Checkpoint:
    """The tensors of a checkpoint, by key.

    Parameters
    ----------
    path : path
        A file, or a folder of shards.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if (self.path / ".metadata").is_file():
            self.tensors, files = _read_distributed(self.path)
        elif self.path.is_dir():
            files = sorted([*self.path.glob("*.safetensors"), *self.path.glob("*.npy")])
            readers = {".safetensors": _read_safetensors, ".npy": _read_npy}
            self.tensors = {key: one for file in files for key, one in readers[file.suffix](file)}
        else:
            files = [self.path]
            is_safetensors = self.path.suffix == ".safetensors"
            read = _read_safetensors if is_safetensors else _read_torch
            self.tensors = dict(read(self.path))
        if not self.tensors:
            raise ValueError(
                f"{self.path}: no tensors; expected a file of safetensors or torch.save, a folder "
                "of safetensors or npy, or one of torch.distributed.checkpoint"
            )
        self.fingerprint = [_fingerprint(file) for file in files]

    def find(self, keys: Iterable[str]) -> tuple[str, StoredTensor] | None:
        """Return the first of the keys that the checkpoint has, and its tensor."""
        for key in keys:
            for prefix in _PREFIXES:
                if prefix + key in self.tensors:
                    return prefix + key, self.tensors[prefix + key]
        return None


def _fingerprint(path: Path) -> list[Any]:
    """Return what changes when a file is written: size, time, and both ends of the content."""
    status = path.stat()
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_HASHED_BYTES))
        file.seek(max(0, status.st_size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return [path.name, status.st_size, status.st_mtime_ns, digest.hexdigest()]


def _whole(shape: tuple[int, ...], dtype: torch.dtype, path: Path, offset: int) -> StoredTensor:
    part = _Part(0, shape[0] if shape else 1, path, offset)
    return StoredTensor(shape, dtype, (part,))


def _read_safetensors(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    with open_source(str(path)) as source:
        tensors = read_safetensors(source)
    for key, tensor in tensors.items():
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is not None:
            yield key, _whole(tensor.shape, dtype, path, tensor.offset)


def _read_npy(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            raise ValueError(f"{path}: expected npy of version 1.0 or 2.0, got {version}")
        shape, is_fortran, dtype = read[version](file)
        offset = file.tell()
    if is_fortran:
        raise ValueError(f"{path}: expected rows in C order, got Fortran order")
    yield path.stem, _whole(shape, torch.from_numpy(np.empty(0, dtype)).dtype, path, offset)


def _read_torch(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    loaded = _load_fake(path, path)
    for name in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: expected a state dict, got a {type(loaded).__name__}")
    for key, tensor in loaded.items():
        if isinstance(tensor, Tensor) and _is_dense(tensor):
            yield key, _whole(tuple(tensor.shape), tensor.dtype, path, _offset_of(path, tensor))


def _load_fake(path: Path, source: Any) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            return torch.load(source, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: expected a file of torch.save (zip format): {error}") from error


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.is_contiguous()


def _offset_of(path: Path, tensor: Tensor) -> int:
    """Return the place of a tensor, which torch leaves in the storage of a fake one."""
    offset = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if offset is None:
        raise ValueError(
            f"{path}: expected a file of torch.save in zip format, and torch 2.7 or up"
        )
    return int(offset) + int(tensor.storage_offset()) * tensor.dtype.itemsize


def _read_distributed(folder: Path) -> tuple[dict[str, StoredTensor], list[Path]]:
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    metadata: Any = FileSystemReader(folder).read_metadata()
    parts: dict[str, list[tuple[_Part, torch.dtype]]] = {}
    for index, place in metadata.storage_data.items():
        entry = metadata.state_dict_metadata[index.fqn]
        is_plain = not getattr(place, "transform_descriptors", None)  # not compressed
        if index.offset is None or not hasattr(entry, "chunks") or not is_plain:
            continue
        path = folder / place.relative_path
        whole_rows = tuple(index.offset[1:]) == (0,) * (len(entry.size) - 1)
        tensor = _load_shard(path, place)
        if whole_rows and _is_dense(tensor) and tensor.shape[1:] == entry.size[1:]:
            first = index.offset[0] if index.offset else 0
            rows = len(tensor) if tensor.dim() else 1
            part = _Part(first, rows, path, place.offset + _offset_of(path, tensor))
            parts.setdefault(index.fqn, []).append((part, tensor.dtype))
    tensors = {}
    for key, found in parts.items():
        size = tuple(metadata.state_dict_metadata[key].size)
        ordered = tuple(sorted((part for part, _ in found), key=lambda part: part.first))
        if _covers(ordered, size[0] if size else 1):
            tensors[key] = StoredTensor(size, found[0][1], ordered)
    files = sorted({folder / place.relative_path for place in metadata.storage_data.values()})
    return tensors, [folder / ".metadata", *files]


def _covers(parts: Iterable[_Part], rows: int) -> bool:
    end = 0
    for part in parts:
        if part.first != end:
            return False
        end += part.rows
    return end == rows


def _load_shard(path: Path, place: Any) -> Tensor:
    with path.open("rb") as file:
        tensor: Tensor = _load_fake(path, _Slice(file, place.offset, place.length))
        return tensor


class _Slice(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, begin: int, length: int) -> None:
        self._file, self._begin, self._length = file, begin, length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        self._file.seek(self._begin + self._at)
        got = self._file.read(max(0, min(len(view), self._length - self._at)))
        view[: len(got)] = got
        self._at += len(got)
        return len(got)
