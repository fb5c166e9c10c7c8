"""The shards of this rank: tables in its store, created, loaded and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tieralloc.distributed._ranks import RankError, Ranks
from tieralloc.distributed._record import Record, RecordFile
from tieralloc.distributed._shards import ShardedTable
from tieralloc.nn._loading import Loading
from tieralloc.nn._streams import Checkpoint, StoredTensor
from tieralloc.nn._tables import existing_table

if TYPE_CHECKING:
    from tieralloc.store import TieredStore
    from tieralloc.table import Table


@dataclass(frozen=True)
class Source:
    """The checkpoint with the rows, and the path of the collection in its keys."""

    path: str | os.PathLike[str]
    prefix: str
    container: str  # "embedding_bags" or "embeddings"

    def key(self, table: str) -> str:
        """Return the path of a table's module."""
        return ".".join(part for part in (self.prefix, self.container, table) if part)


def open_shards(
    store: TieredStore,
    tables: Sequence[ShardedTable],
    ranks: Ranks,
    version: str,
    source: Source | None,
) -> dict[str, Table]:
    """Return this rank's tables; RankError on all ranks if one of them refuses."""
    problem = ""
    opened: dict[str, Table] = {}
    record = Record.of(tables, version, ranks.rank, ranks.size)
    try:
        opened = _open(store, tables, ranks.rank, record, source)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        reason = error
    states = ranks.gather((problem, record.plan, version, store.version))
    refusals = [f"rank {rank}: {state[0]}" for rank, state in enumerate(states) if state[0]]
    if refusals:
        refused = tuple(rank for rank, state in enumerate(states) if state[0])
        raise RankError("; ".join(refusals), refused) from (reason if problem else None)
    _check_same(states)
    return opened


def _check_same(states: Sequence[tuple[str, str, str, int]]) -> None:
    for name, place in (("plan", 1), ("version", 2), ("version of the store", 3)):
        others = [rank for rank, state in enumerate(states) if state[place] != states[0][place]]
        if others:
            got = states[others[0]][place]
            raise RankError(
                f"rank {', '.join(map(str, others))}: another {name} than rank 0; expected "
                f"{states[0][place]!r}, got {got!r}",
                tuple(others),
            )


def _open(
    store: TieredStore,
    tables: Sequence[ShardedTable],
    rank: int,
    record: Record,
    source: Source | None,
) -> dict[str, Table]:
    file = RecordFile(store)
    local = [table for table in tables if table.shard_of(rank) is not None]
    if not file.check(record):
        if not store._read_only:
            file.write(record, is_loaded=False)
        if source is None:
            _create(store, local, rank)
        else:
            _load(store, local, rank, source)
        file.write(record, is_loaded=True)
    return {
        table.name: existing_table(store, table.name, _shape(table, rank), table.dtype)
        for table in local
    }


def _shape(table: ShardedTable, rank: int) -> tuple[int, int]:
    shard = table.shard_of(rank)
    assert shard is not None
    return shard.last - shard.first, table.embedding_dim


def _create(store: TieredStore, tables: Sequence[ShardedTable], rank: int) -> None:
    for table in tables:
        if table.name not in store.tables:
            store.create_table(table.name, *_shape(table, rank), table.dtype)


@dataclass
class _Weight:
    """A shard as `Loading` loads it."""

    shape: tuple[int, int]
    dtype: str
    paths: list[str]
    table: str


class _Shards(Checkpoint):
    """A checkpoint whose tensors are the rows of a rank's shards."""

    def __init__(self, path: str | os.PathLike[str], shards: Mapping[str, tuple[int, int, int]]):
        super().__init__(path)
        for key, (first, last, rows) in shards.items():
            found = self.find([key])
            if found is None:
                continue  # `Loading` raises the error
            name, stored = found
            self.tensors[name] = _narrowed(self.path, name, stored, first, last, rows)


def _narrowed(
    path: object, name: str, stored: StoredTensor, first: int, last: int, rows: int
) -> StoredTensor:
    if not stored.shape or stored.shape[0] != rows:
        raise ValueError(f"{path}: {name!r}: expected {rows} rows, got shape {stored.shape}")
    return stored.narrow(first, last)


def _load(store: TieredStore, tables: Sequence[ShardedTable], rank: int, source: Source) -> None:
    """Create and load the tables, some MiB at a time; an interrupted load goes on."""
    shards, weights = {}, []
    for table in tables:
        shard = table.shard_of(rank)
        assert shard is not None
        path = source.key(table.name)
        shards[f"{path}.weight"] = (shard.first, shard.last, table.num_embeddings)
        weights.append(_Weight(_shape(table, rank), table.dtype, [path], table.name))
    if not weights:
        return
    loading = Loading(_Shards(source.path, shards), store)
    loading.plan(weights)
    loading.run(weights, shows_progress=False)
    loading.end()
