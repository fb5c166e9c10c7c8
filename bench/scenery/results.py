"""Result files: one small JSON per experiment.

Floats are rounded to four significant digits, which is more than a repetition reproduces. Samples
of single turns are not kept: a result has median and quartiles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from tieralloc._common.files import replacing

_DIGITS = 4


def rounded(value: Any) -> Any:
    """Return a value of JSON with all floats in it rounded; dataclasses become objects."""
    if isinstance(value, float):
        number = float(f"{value:.{_DIGITS}g}")
        return int(number) if abs(number) >= 10 ** (_DIGITS - 1) else number
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(part) for part in value]
    return value


def write_json(path: Path, content: Any) -> None:
    """Write an object or a list of records, with a line per record or field."""
    content = rounded(content)
    lists = ("records", "rows", "lines")
    if isinstance(content, list):
        text = _lines(content)
    else:
        fields = (
            f"{json.dumps(key)}: {_lines(value) if key in lists else _compact(value)}"
            for key, value in content.items()
        )
        text = "{" + ",\n".join(fields) + "}"
    write_text(path, text)


def to_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return records as names of columns and rows of values, in half the bytes."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    rows = [[record.get(name) for name in columns] for record in records]
    return {"columns": columns, "rows": rows}


def from_columns(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of a result file with columns; null fields are omitted."""
    pairs = (zip(content["columns"], row, strict=True) for row in content["rows"])
    return [{name: value for name, value in pair if value is not None} for pair in pairs]


def read_json(path: Path) -> Any:
    """Return the content of a result file; None if it is missing."""
    return json.loads(path.read_text()) if path.exists() else None


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(f"{text.rstrip()}\n".encode())


def _lines(records: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(map(_compact, records)) + "\n]"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
