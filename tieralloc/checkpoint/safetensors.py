"""The header of a safetensors file, by the rules of the safetensors package.

    8 bytes    length of the header, little-endian, at most 100,000,000
    header     JSON object in UTF-8, padded with spaces: the dtype, shape and data_offsets of each
               tensor by its name, and perhaps texts as "__metadata__"
    data       the tensors side by side, without gaps, up to the end of the file

Only the header is read, after its length was checked against the file.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from tieralloc.checkpoint.tensor import Tensor

if TYPE_CHECKING:
    from tieralloc.checkpoint.tensor import SourceFile

__all__ = ["read_safetensors"]

_MAX_HEADER_BYTES = 100_000_000
_MAX_INTEGER = (1 << 64) - 1

#: Bits of an element, by dtype.
_BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_safetensors(source: SourceFile) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises
    ------
    ValueError
        If the file breaks a rule of the format.
    """
    try:
        return _tensors_of(_read_header(source), source.size)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source.path}: not a safetensors file: {error}") from None


def _read_header(source: SourceFile) -> bytes:
    length = int.from_bytes(source.file.read(8), "little")
    limit = min(_MAX_HEADER_BYTES, source.size - 8)
    if not 2 <= length <= limit:
        raise ValueError(f"header: expected 2 to {limit} bytes, got {length}")
    header = source.file.read(length)
    if len(header) < length:
        raise ValueError(f"header: truncated; expected {length} bytes, got {len(header)}")
    return header


def _tensors_of(header: bytes, size: int) -> dict[str, Tensor]:
    if not header.startswith(b"{"):
        raise ValueError(f"header: expected a JSON object, got {header[:16]!r}")
    entries = json.loads(
        header.decode("utf-8"), object_pairs_hook=_without_repeats, parse_int=_natural
    )
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(
        isinstance(each, str) for each in metadata.values()
    ):
        raise ValueError("__metadata__: expected texts by name")
    begin = 8 + len(header)
    spans = {name: _checked_span(name, entry) for name, entry in entries.items()}
    end = 0
    for name in sorted(spans, key=spans.__getitem__):
        if spans[name][0] != end:
            raise ValueError(
                f"tensor {name!r}: expected data_offsets from {end} on, where the tensor before "
                f"ends, got {spans[name]}"
            )
        end = spans[name][1]
    if begin + end != size:
        raise ValueError(f"truncated, or too long; expected {begin + end} bytes, got {size}")
    return {
        name: Tensor(
            tuple(entry["shape"]),
            entry["dtype"],
            _KINDS.get(entry["dtype"], "bytes"),
            _BITS[entry["dtype"]],
            begin + spans[name][0],
        )
        for name, entry in entries.items()
    }


def _checked_span(name: str, entry: Any) -> tuple[int, int]:
    """Return the data_offsets of an entry, which has the size of its shape."""
    name.encode("utf-8")  # ValueError for a lone surrogate
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"tensor {name!r}: expected dtype, shape and data_offsets")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name!r}: expected a dtype such as F32, got {dtype!r}")
    for numbers in (shape, span):
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise ValueError(f"tensor {name!r}: expected lists of integers, got {numbers!r}")
    if len(span) != 2 or span[0] > span[1]:
        raise ValueError(f"tensor {name!r}: expected data_offsets that ascend, got {span}")
    # The product is checked step by step, as in the package: a later 0 hides no overflow.
    elements = 1
    for number in shape:
        elements *= number
        if elements * _BITS[dtype] > _MAX_INTEGER:
            raise ValueError(f"tensor {name!r}: its shape overflows: {shape}")
    bits = elements * _BITS[dtype]
    if bits != 8 * (span[1] - span[0]):
        raise ValueError(
            f"tensor {name!r}: expected {math.ceil(bits / 8)} bytes for {dtype} of shape {shape}, "
            f"got data_offsets {span}"
        )
    return span[0], span[1]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected each name once, got {repeated!r} again")
    return entries


def _natural(text: str) -> int:
    if len(text) > 20 or text.startswith("-") or int(text) > _MAX_INTEGER:
        raise ValueError(f"expected an integer of 0 to {_MAX_INTEGER}, got {text[:24]}")
    return int(text)
