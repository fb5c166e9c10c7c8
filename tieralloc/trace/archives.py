"""Zip archives of unknown origin: bounds on their content, and torch's tensors without torch.

``torch.save`` writes a zip file: ``NAME/data.pkl`` is a pickle that refers to storages, and
``NAME/data/KEY`` has the bytes of a storage. The pickle runs no code: only the operations and names
below are resolved. Memory is bounded by the archive, before anything is allocated: records expand
no further than deflate can, a storage is as long as its record, and a tensor has no more elements
than its storage.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["check_arrays", "read_tensors"]

#: The maximum expansion by deflate (zlib's technical details).
_MAX_EXPANSION = 1032

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_STORAGES = {
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
}

_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

_OPERATIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BINPERSID"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS"),
)


def check_expansion(file: IO[bytes]) -> None:
    """Check that the members of a zip file do not declare more bytes than it can hold.

    ValueError if they do, or a member is compressed by another method than deflate.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        declared = sum(info.file_size for info in archive.infolist())
        if declared > _MAX_EXPANSION * size:
            raise ValueError(
                f"expected at most {_MAX_EXPANSION * size} bytes in a file of {size}, got"
                f" {declared} declared ones"
            )
        for info in archive.infolist():
            if info.compress_type not in _METHODS:
                raise ValueError(
                    f"{info.filename}: expected no compression or deflate, got method"
                    f" {info.compress_type}"
                )
    file.seek(0)


def check_arrays(file: IO[bytes], names: Sequence[str]) -> None:
    """Check that arrays of an ``.npz`` file are no larger than their members; any error if not."""
    check_expansion(file)
    with zipfile.ZipFile(file) as archive:
        members = {f"{name}.npy" for name in names}
        for info in archive.infolist():
            if info.filename in members:
                with archive.open(info) as member:
                    _check_array(member, info)
    file.seek(0)


def _check_array(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    major, minor = np.lib.format.read_magic(member)
    if (major, minor) not in _NPY_HEADERS:
        raise ValueError(f"{info.filename}: expected .npy version 1.0 or 2.0, got {major}.{minor}")
    shape, _, dtype = _NPY_HEADERS[major, minor](member)
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(
            f"{info.filename}: expected an array of at most {info.file_size} bytes, got shape"
            f" {shape} of {dtype}"
        )


def read_tensors(file: IO[bytes]) -> Any:
    """Return the content of a ``torch.save`` archive, its tensors as read-only arrays.

    Invalid bytes raise almost any exception.
    """
    check_expansion(file)
    with zipfile.ZipFile(file) as archive:
        return _Unpickler(archive).load()


# Python's implementation: C's allocates what a length or a position in the memo declares.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPERATIONS
    }

    def __init__(self, archive: zipfile.ZipFile) -> None:
        pickles = [name for name in archive.namelist() if f"/{name}".endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"expected one data.pkl, got {len(pickles)}")
        self._archive = archive
        self._prefix = pickles[0].removesuffix("data.pkl")
        self._order = "<"
        if f"{self._prefix}byteorder" in archive.namelist():
            self._order = ">" if archive.read(f"{self._prefix}byteorder") == b"big" else "<"
        self._records: dict[str, bytes] = {}
        super().__init__(io.BytesIO(archive.read(pickles[0])))

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return np.dtype(self._order + _STORAGES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"expected tensors of integers, got {module}.{name}")

    def persistent_load(self, reference: Any) -> NDArray[Any]:
        kind, dtype, key, _, count = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"expected a storage, got {kind!r}")
        if key not in self._records:
            self._records[key] = self._archive.read(f"{self._prefix}data/{key}")
        record = self._records[key]
        if len(record) != count * dtype.itemsize:
            raise ValueError(
                f"storage {key}: expected {count} elements of {dtype}, got {len(record)} bytes"
            )
        return np.frombuffer(record, dtype)

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> NDArray[Any]:
        """As `torch._utils._rebuild_tensor_v2`; the arguments may be anything."""
        if not isinstance(storage, np.ndarray) or storage.ndim != 1:
            raise ValueError(f"expected a storage, got a {type(storage).__name__}")
        numbers = (offset, *shape, *strides)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"expected non-negative sizes, got {numbers}")
        if len(shape) != len(strides):
            raise ValueError(f"expected a stride per dimension, got {strides} for {shape}")
        if 0 in shape:
            return np.empty(shape, storage.dtype)
        steps = zip(shape, strides, strict=True)
        last = offset + sum((size - 1) * stride for size, stride in steps)
        if last >= len(storage) or math.prod(shape) > len(storage):
            raise ValueError(
                f"tensor of shape {shape}: expected it within its storage of {len(storage)}"
                f" elements, got offset {offset} and strides {strides}"
            )
        return np.lib.stride_tricks.as_strided(
            storage[offset:], shape, [stride * storage.itemsize for stride in strides]
        )
