"""The record beside a rank's file, `PATH.shards`: of which plan, version, rank and rows it is.

It is written before the tables are created, and again when they are loaded. A rank whose file has
another record does not start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._common.files import write_durably
from tieralloc.distributed._shards import ShardedTable, digest

if TYPE_CHECKING:
    from tieralloc.store import TieredStore

_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """The shards of a rank."""

    plan: str
    version: str
    rank: int
    num_ranks: int
    shards: dict[str, list[int]]  # first and last row, rows of the whole table

    @classmethod
    def of(cls, tables: Sequence[ShardedTable], version: str, rank: int, num_ranks: int) -> Record:
        """Return the record of a rank of a plan."""
        shards = {
            table.name: [shard.first, shard.last, table.num_embeddings]
            for table in tables
            if (shard := table.shard_of(rank)) is not None
        }
        return cls(digest(tables, num_ranks), version, rank, num_ranks, shards)

    def describe(self) -> str:
        """Return the record in one line."""
        rows = ", ".join(
            f"{name} {first} to {last}" for name, (first, last, _) in self.shards.items()
        )
        return (
            f"plan {self.plan}, version {self.version!r}, rank {self.rank} of {self.num_ranks}: "
            f"{rows or 'no rows'}"
        )


class RecordFile:
    """The record of a store's file; of a slow tier in memory there is none."""

    def __init__(self, store: TieredStore) -> None:
        self._store_id = store.store_id
        self._has_tables = bool(store.tables)
        self.path = None if store._path is None else Path(f"{store._path}.shards")

    def check(self, expected: Record) -> bool:
        """Return whether the shards are loaded; ValueError for a file of other shards."""
        state = self._read()
        if state is None:
            if self._has_tables:
                raise ValueError(
                    f"{self.path or 'store'}: no record of shards beside a store with tables; "
                    "expected a new store, or the file of this rank"
                )
            return False
        found = Record(**state["record"])
        if found != expected:
            raise ValueError(
                f"{self.path}: shards of another plan, version or rank; expected "
                f"{expected.describe()}; got {found.describe()}"
            )
        return bool(state["is_loaded"])

    def read(self) -> Record | None:
        """Return the record of loaded shards; ValueError for a damaged one."""
        state = self._read()
        return Record(**state["record"]) if state is not None and state["is_loaded"] else None

    def _read(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = json.loads(self.path.read_text())
            if state["store"] != self._store_id:
                return None  # of a store that this file replaced
            if state["format"] != _FORMAT:
                raise ValueError(f"format {state['format']}")
            Record(**state["record"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path}: damaged ({error}); delete it and the store's file"
            ) from error
        return state

    def write(self, record: Record, is_loaded: bool) -> None:
        """Write the record durably."""
        if self.path is None:
            return
        state = {
            "format": _FORMAT,
            "store": self._store_id,
            "record": asdict(record),
            "is_loaded": is_loaded,
        }
        write_durably(self.path, json.dumps(state).encode())
