"""Applies deltas to a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tieralloc import _bindings
from tieralloc._common.values import as_values
from tieralloc.delta.delta import AppliedDelta, Delta
from tieralloc.delta.errors import check_order
from tieralloc.delta.source import Source, opened
from tieralloc.table import check_writable

if TYPE_CHECKING:
    from tieralloc.store import TieredStore

__all__ = ["apply"]


def apply(store: TieredStore, delta: Delta | str | os.PathLike[str]) -> AppliedDelta:
    """Apply a delta: `TieredStore.apply`."""
    check_writable(store, "apply")
    core = store._core

    def check(version: int, follows: int, name: str) -> None:
        check_order(version, follows, core.version, name)

    directory = None if store._path is None else os.path.dirname(os.path.realpath(store._path))
    with opened(delta, check, directory) as source:
        sizes = source.sizes()
        positions = [store.table(table).position for table, _ in sizes]
        staged = _bindings.Delta(core, positions, [rows for _, rows in sizes])
        try:
            check(source.version, source.follows, source.name)  # no other delta came between
            held = _stage(store, source, staged)
        finally:
            staged.end()
        return AppliedDelta(source.version, sum(rows for _, rows in sizes), held / 1e9)


def _stage(store: TieredStore, source: Source, staged: _bindings.Delta) -> int:
    """Stage all parts and commit them; return the nanoseconds that calls were held off."""
    for name, rows, values in source.parts():
        table = store.table(name)
        staged.stage(
            table.position, rows, None if values is None else as_values(table.dtype, values)
        )
    return staged.commit(source.version)
