"""Makes docs/reference.md, the page of public names, from the code.

``python docs/reference.py`` writes the page; the tests check that it is up to date.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reference.md"

#: The public modules, and what each is for. Its public names are its ``__all__``.
MODULES = {
    "tieralloc": "Stores, tables and their options.",
    "tieralloc.stats": "The result of `TieredStore.stats`.",
    "tieralloc.nn": "torch modules. Needs torch.",
    "tieralloc.trace": "Access traces.",
    "tieralloc.trace.recorder": "The result of `TieredStore.record`.",
    "tieralloc.tools.simulate": "Counts misses, with no bytes behind them.",
    "tieralloc.tools.replay.replay": "Serves a trace and measures it.",
    "tieralloc.tools.emulated": "A slow tier for studies.",
}

_HEAD = """\
# Reference

Every public name, once. `help(name)` prints the whole text: parameters, shapes, units, errors,
examples. Other names are not public. `tieralloc --help` describes the command line.
`docs/reference.py` makes this page from the code.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    for name, purpose in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## {name}\n\n{purpose}\n")
        for each in sorted(module.__all__):
            value = getattr(module, each)
            if not inspect.ismodule(value):
                parts.append(_entry(name, each, value))
    return "\n".join(parts)


def _entry(module: str, name: str, value: Any) -> str:
    if not callable(value):
        return f"### `{module}.{name}`\n\nA constant.\n"
    lines = [f"### `{module}.{name}{_signature(value)}`", "", _first_line(value), ""]
    if inspect.isclass(value):
        lines += _members(value)
    return "\n".join(lines)


def _members(kind: type) -> Iterator[str]:
    rows = []
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            rows.append(f"| `{name}` | {_first_line(value)} |")
        elif callable(value) or isinstance(value, (classmethod, staticmethod)):
            function = getattr(kind, name)
            rows.append(f"| `{name}{_signature(function)}` | {_first_line(function)} |")
    if rows:
        yield from ["| | |", "| --- | --- |", *rows, ""]


def _signature(value: Any) -> str:
    """Return parameters with their defaults, without types."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    text = str(inspect.Signature(bare))
    return re.sub(r"<factory>|<[^>]+>", "...", text)


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
