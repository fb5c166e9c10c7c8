"""Log lines of state changes, for people and for programs.

A line has one form, ``event=NAME key=value …``: values with spaces, quotes or ``=`` are quoted as
in JSON. The record's attribute ``tieralloc`` is a dict of the same names and values, for formatters
of structured logs.
"""

from __future__ import annotations

import json
import logging
import os

__all__ = ["log_event"]

_LOG = logging.getLogger("tieralloc")


def log_event(level: int, event: str, **fields: object) -> None:
    """Log a state change by the logger "tieralloc".

    Parameters
    ----------
    level : int
        Of `logging`: WARNING if the user should act, otherwise INFO.
    event : str
        Name of the change, such as "policy_paused": a subject and a participle. Stable.
    **fields
        Numbers, strings, bools, paths. Fields of value None are left out. ``store`` is the file of
        the store, or its kind of memory.
    """
    if not _LOG.isEnabledFor(level):
        return
    given = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in fields.items()
        if value is not None
    }
    line = " ".join(f"{name}={_text(value)}" for name, value in {"event": event, **given}.items())
    _LOG.log(level, "%s", line, extra={"tieralloc": {"event": event, **given}}, stacklevel=2)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_plain = text and text.isprintable() and not set(text) & {" ", '"', "=", "\\"}
    return text if is_plain else json.dumps(text, ensure_ascii=False)
