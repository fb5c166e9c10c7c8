"""What a result file holds, recognised by its fields."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tieralloc.tools.report import Record

_WRITERS = (
    "tieralloc simulate, replay or compare with --json, or bench.policies, bench.peers or"
    " bench.dlrm"
)

#: What every record of a policy at a capacity has.
_TEXTS = ("policy", "trace")
_NUMBERS = ("fast_fraction", "fast_rows", "lookups", "on_demand_fetches", "miss_ratio")
_FINDING_TEXTS = ("what", "unit")


@dataclass(frozen=True)
class Records:
    """Records of policies at capacities, and what the file says of all of them."""

    records: Sequence[Record]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lines:
    """Findings beside their targets, line by line."""

    lines: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any] = field(default_factory=dict)


def read_results(path: str | os.PathLike[str]) -> Records | Lines:
    """Read a result file that the project writes.

    Parameters
    ----------
    path : path
        JSON: a list of records, as design.md's contracts have them; an object whose ``records`` is
        such a list; or one whose ``lines`` hold findings.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it holds something else, saying what it lacks.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is no JSON: {error}") from None
    try:
        return _recognise(content)
    except ValueError as error:
        message = f"{os.fspath(path)} {error}; expected what {_WRITERS} wrote"
        raise ValueError(message) from None


def number(record: Mapping[str, Any], *path: str) -> float | None:
    """Return a finite number of a record, which may lie deeper; None where there is none."""
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value if _is_number(value) else None


def _recognise(content: Any) -> Records | Lines:
    if isinstance(content, list):
        return Records(_checked(content, "record", _TEXTS, _NUMBERS))
    if not isinstance(content, dict):
        raise ValueError(f"holds {_kind(content)}, neither a list of records nor an object")
    about = {key: value for key, value in content.items() if key not in ("records", "lines")}
    if "records" in content:
        return Records(_checked(content["records"], "record", _TEXTS, _NUMBERS), about)
    if "lines" in content:
        lines = _checked(content["lines"], "line", ("title",), ())
        for line in lines:
            findings = line.get("findings")
            _checked(findings, f"finding of line {line['title']!r}", _FINDING_TEXTS, (), least=0)
        return Lines(lines, about)
    raise ValueError("is an object with neither 'records' nor 'lines'")


def _checked(
    content: Any, what: str, texts: Sequence[str], numbers: Sequence[str], least: int = 1
) -> list[dict[str, Any]]:
    """Return a list of objects that have these fields; ValueError, naming what is wrong."""
    if not isinstance(content, list):
        raise ValueError(f"has {_kind(content)} where a list with each {what} should be")
    if len(content) < least:
        raise ValueError(f"holds no {what}")
    for place, each in enumerate(content):
        if not isinstance(each, dict):
            raise ValueError(f"has {_kind(each)} as {what} number {place}")
        lacking = [key for key in (*texts, *numbers) if key not in each]
        if lacking:
            raise ValueError(f"lacks {', '.join(lacking)} in {what} number {place}")
        _check_types(each, texts, lambda value: isinstance(value, str), "a text", what, place)
        _check_types(each, numbers, _is_number, "a number", what, place)
    return content


def _check_types(
    each: Mapping[str, Any],
    keys: Sequence[str],
    fits: Callable[[Any], bool],
    wanted: str,
    what: str,
    place: int,
) -> None:
    for key in keys:
        if not fits(each[key]):
            value = json.dumps(each[key], ensure_ascii=False)[:40]
            raise ValueError(f"has {key} {value} in {what} number {place}, which is not {wanted}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth", type(None): "null"}
    return names.get(type(value), "a number")
