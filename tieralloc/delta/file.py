"""The file of a delta: a header, parts, an end mark; each with its checksum.

    header  magic "TIERDELT", format, CRC-32, version, follows
    part    mark "PART", CRC-32 of these fields and of the payload, bytes of the table's name, rows,
            columns, type of the values (8 bytes; zeros: the rows are deleted); payload: name, rows
            of 8 bytes, values
    end     mark "DEND", CRC-32, parts, rows

All numbers are little-endian. A file without its end is truncated: nothing of it is applied.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from tieralloc.delta.errors import DamagedDeltaError, TruncatedDeltaError
from tieralloc.delta.parts import MAX_VERSION, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DeltaReader", "DeltaWriter"]

_FORMAT = 1
_MAGIC = b"TIERDELT"
_HEADER = struct.Struct("<8sIIQQ")
_PART = struct.Struct("<4sIIIQQ8s")  # mark, checksums of fields and payload, name, rows, columns
_END = struct.Struct("<4sIQQ")
_ROW = np.dtype("<i8")
_TYPES = {np.dtype(text).str.encode() for text in ("<f2", "<f4", "<f8", "<u2", "u1")}
_DELETED = b""
_MAX_NAME_BYTES = 1024
_MAX_PAYLOAD_BYTES = 64 << 20


class DeltaWriter:
    """Writes a delta to an open file, part by part."""

    def __init__(self, file: IO[bytes], version: int, follows: int) -> None:
        self._file = file
        self._parts = self._rows = 0
        file.write(_sealed(_HEADER, (_MAGIC, _FORMAT, 0, version, follows), 2))

    def add(self, table: str, rows: NDArray[np.int64], values: NDArray[np.generic] | None) -> None:
        """Write a part of at most 64 MiB (`split`)."""
        name = table.encode()
        payload = [name, rows.astype(_ROW, copy=False).tobytes()]
        columns, kind = 0, _DELETED
        if values is not None:
            array = np.ascontiguousarray(_plain(values))
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            columns, kind = array.shape[1], array.dtype.str.encode()
            if kind not in _TYPES:
                raise TypeError(f"values of {table!r}: expected floats or bytes, got {array.dtype}")
            payload.append(array.tobytes())
        checksum = 0
        for piece in payload:
            checksum = zlib.crc32(piece, checksum)
        fields = (b"PART", 0, checksum, len(name), len(rows), columns, kind)
        self._file.write(_sealed(_PART, fields, 1))
        for piece in payload:
            self._file.write(piece)
        self._parts += 1
        self._rows += len(rows)

    def end(self) -> None:
        """Write the end mark."""
        self._file.write(_sealed(_END, (b"DEND", 0, self._parts, self._rows), 1))


class DeltaReader:
    """Reads a delta from an open file, of any origin: sizes are checked before memory is taken.

    Attributes
    ----------
    version, follows : int
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Read the header.

        Raises
        ------
        DamagedDeltaError, TruncatedDeltaError
            If the file is no delta, of a newer format, or ends early.
        """
        self._file = file
        self._name = name
        file.seek(0)
        header = file.read(_HEADER.size)
        magic = header[: len(_MAGIC)]
        if not magic or not _MAGIC.startswith(magic):
            raise DamagedDeltaError(f"{name}: not a delta; expected a file of tieralloc delta")
        if len(header) < _HEADER.size:
            raise self._truncated()
        _, kind, _, self.version, self.follows = _HEADER.unpack(header)
        if kind > _FORMAT:
            raise DamagedDeltaError(
                f"{name}: format {kind}; expected at most {_FORMAT}; upgrade tieralloc"
            )
        is_possible = kind == _FORMAT and self.follows < self.version <= MAX_VERSION
        if not _is_sealed(_HEADER, header, 2) or not is_possible:
            raise self._damaged(0)

    def parts(self) -> Iterator[Part]:
        """Yield the parts, each checked.

        Raises
        ------
        TruncatedDeltaError
            If the file ends early; after the parts before.
        DamagedDeltaError
            If a checksum is wrong, or bytes follow the end.
        """
        self._file.seek(_HEADER.size)
        parts = rows = 0
        while True:
            at = self._file.tell()
            mark = self._read(4)
            if mark == b"DEND":
                break
            table, numbers, values = self._part(mark, at)
            parts += 1
            rows += len(numbers)
            yield table, numbers, values
        end = mark + self._read(_END.size - 4)
        if not _is_sealed(_END, end, 1) or _END.unpack(end)[2:] != (parts, rows):
            raise self._damaged(at)
        if self._file.read(1):
            raise self._damaged(at + _END.size)

    def _part(self, mark: bytes, at: int) -> Part:
        fields = mark + self._read(_PART.size - 4)
        _, _, checksum, name_bytes, count, columns, padded = _PART.unpack(fields)
        kind = padded.rstrip(b"\0")
        if mark != b"PART" or not _is_sealed(_PART, fields, 1):
            raise self._damaged(at)
        if kind not in _TYPES and (kind != _DELETED or columns):
            raise self._damaged(at)
        row_bytes = columns * np.dtype(kind.decode()).itemsize if kind else 0
        size = name_bytes + count * (_ROW.itemsize + row_bytes)
        if name_bytes > _MAX_NAME_BYTES or size > _MAX_PAYLOAD_BYTES:
            raise self._damaged(at)
        payload = self._read(size)
        if zlib.crc32(payload) != checksum:
            raise self._damaged(at)
        rows = np.frombuffer(payload, _ROW, count, name_bytes).astype(np.int64, copy=False)
        table = payload[:name_bytes].decode("utf-8", "replace")
        if kind == _DELETED:
            return table, rows, None
        start = name_bytes + count * _ROW.itemsize
        values = np.frombuffer(payload, kind.decode(), count * columns, start)
        return table, rows, values.reshape(count, columns)

    def _read(self, size: int) -> bytes:
        piece = self._file.read(size)
        if len(piece) < size:
            raise self._truncated()
        return piece

    def _truncated(self) -> TruncatedDeltaError:
        size = os.fstat(self._file.fileno()).st_size
        return TruncatedDeltaError(
            f"{self._name}: truncated; expected an end mark, got the end of the file after {size} "
            "bytes"
        )

    def _damaged(self, at: int) -> DamagedDeltaError:
        return DamagedDeltaError(
            f"{self._name}: damaged at offset {at}; expected a part or the end with a valid "
            "checksum"
        )


def _sealed(layout: struct.Struct, fields: tuple[object, ...], place: int) -> bytes:
    """Return the fields with their checksum at a place, where they have 0."""
    checksum = zlib.crc32(layout.pack(*fields))
    return layout.pack(*fields[:place], checksum, *fields[place + 1 :])


def _is_sealed(layout: struct.Struct, packed: bytes, place: int) -> bool:
    fields = layout.unpack(packed)
    return _sealed(layout, (*fields[:place], 0, *fields[place + 1 :]), place) == packed


def _plain(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values of a type that NumPy has: the bits of bfloat16."""
    return values.view(np.uint16) if values.dtype.name == "bfloat16" else values
