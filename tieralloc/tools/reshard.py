"""Shards of N ranks as shards of M ranks, offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tieralloc._common.progress import Progress, Report, silent
from tieralloc.distributed._record import Record, RecordFile
from tieralloc.distributed._shards import Shard, ShardedTable, check_shards, is_replicated
from tieralloc.store import TieredStore
from tieralloc.tiers import File
from tieralloc.tools.check import open_cold
from tieralloc.tools.plan.shards import RankLimits, ShardPlan, plan_shards
from tieralloc.tools.stored_rows import create_like, stored_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.table import Table
    from tieralloc.trace import Trace

__all__ = ["even_shards", "planned_shards", "reshard"]


@dataclass(frozen=True)
class _Part:
    """Rows of a table in a file: row `first` of the table is row 0 of the file's."""

    first: int
    last: int
    table: Table


def even_shards(rows: Mapping[str, int], num_ranks: int) -> dict[str, list[Shard]]:
    """Return equal row ranges of each table on all ranks; tables of fewer rows are on one."""
    shards = {}
    for number, (name, count) in enumerate(rows.items()):
        if count < num_ranks:
            shards[name] = [Shard(number % num_ranks, 0, count)]
            continue
        ends = [count * (rank + 1) // num_ranks for rank in range(num_ranks)]
        starts = [0, *ends[:-1]]
        shards[name] = [Shard(rank, starts[rank], ends[rank]) for rank in range(num_ranks)]
    return shards


def reshard(
    paths: Sequence[str],
    outs: Sequence[str],
    shards: Mapping[str, Sequence[Shard]] | None = None,
    *,
    progress: Progress = silent,
) -> list[Record]:
    """Write the files of all ranks of a plan as those of another; return their records.

    Rows are copied byte for byte, some MiB at a time. The new files are at version 0 of deltas,
    and keep the version of the rows.

    Parameters
    ----------
    paths : sequence of str
        The files of all ranks, in any order.
    outs : sequence of str
        The new file of each rank; existing table files are replaced.
    shards : mapping of str to sequences of Shard, optional
        The new plan, such as `ShardPlan.shards`. Default: `even_shards`.
    progress : callable
        Opens progress bars.

    Raises
    ------
    ValueError
        If the files are not all ranks of one plan and version, or the new plan is not of each row
        once.
    OSError
        If a file cannot be read or written.
    """
    with ExitStack() as stack:
        stores = {path: stack.enter_context(open_cold(path)) for path in paths}
        records = _records(stores)
        parts, rows = _parts(stores, records)
        plan = even_shards(rows, len(outs)) if shards is None else dict(shards)
        tables = [_table(name, parts[name], rows[name], plan, len(outs)) for name in parts]
        made = []
        with progress("reshard", sum(rows.values()), "rows") as report:
            for rank, out in enumerate(outs):
                record = Record.of(tables, records[0].version, rank, len(outs))
                _write(out, record, tables, parts, report)
                made.append(record)
        return made


def _records(stores: Mapping[str, TieredStore]) -> list[Record]:
    """Return the records of the files; ValueError unless they are all ranks of one plan."""
    records: list[Record] = []
    for path, store in stores.items():
        record = RecordFile(store).read()
        if record is None:
            raise ValueError(f"{path}: no record of loaded shards beside it")
        first = records[0] if records else record
        if (record.plan, record.version) != (first.plan, first.version):
            raise ValueError(
                f"{path}: shards of another plan or version; expected {first.plan}, version "
                f"{first.version!r}, got {record.plan}, version {record.version!r}"
            )
        records.append(record)
    ranks = sorted(record.rank for record in records)
    if not records or ranks != list(range(records[0].num_ranks)):
        expected = records[0].num_ranks if records else "one or more"
        raise ValueError(f"files: expected each of {expected} ranks once, got ranks {ranks}")
    return records


def _parts(
    stores: Mapping[str, TieredStore], records: Sequence[Record]
) -> tuple[dict[str, list[_Part]], dict[str, int]]:
    """Return the parts of each table in row order, and its rows."""
    parts: dict[str, dict[int, _Part]] = {}  # by first row: replicas are the same
    rows: dict[str, int] = {}
    for store, record in zip(stores.values(), records, strict=True):
        for name, (first, last, count) in record.shards.items():
            parts.setdefault(name, {})[first] = _Part(first, last, store.table(name))
            rows[name] = count
    names = sorted(parts)
    ordered = {name: [parts[name][first] for first in sorted(parts[name])] for name in names}
    return ordered, {name: rows[name] for name in names}


def _table(
    name: str,
    parts: Sequence[_Part],
    rows: int,
    plan: Mapping[str, Sequence[Shard]],
    num_ranks: int,
) -> ShardedTable:
    table = parts[0].table
    shards = tuple(sorted(plan.get(name, ()), key=lambda shard: shard.first))
    if not is_replicated(shards):
        check_shards(name, rows, shards, num_ranks)
    return ShardedTable(name, rows, table.embedding_dim, table.dtype, "sum", (), shards)


def _write(
    out: str,
    record: Record,
    tables: Sequence[ShardedTable],
    parts: Mapping[str, Sequence[_Part]],
    report: Report,
) -> None:
    slow = File(out, mode="w", warm_restart_interval=None)
    with TieredStore(slow=slow, fast_rows=8 + len(tables)) as store:
        file = RecordFile(store)
        file.write(record, is_loaded=False)
        for table in tables:
            shard = table.shard_of(record.rank)
            if shard is None:
                continue
            new = create_like(store, parts[table.name][0].table, shard.last - shard.first)
            new.load(_rows(parts[table.name], shard, report))
        file.write(record, is_loaded=True)


def _rows(parts: Sequence[_Part], shard: Shard, report: Report) -> Iterator[NDArray[Any]]:
    for part in parts:
        begin, end = max(part.first, shard.first), min(part.last, shard.last)
        yield from stored_rows(part.table, begin - part.first, end - part.first, report)


def planned_shards(
    paths: Sequence[str], trace: Trace, num_ranks: int, fast_bytes: int | str
) -> ShardPlan:
    """Return a plan of the tables of some files for new ranks, by a trace of their accesses."""
    with ExitStack() as stack:
        stores = [stack.enter_context(open_cold(path)) for path in paths]
        kinds = {(t.embedding_dim, t.dtype) for store in stores for t in store.tables.values()}
    if len(kinds) != 1:
        raise ValueError(f"files: expected tables of one dim and dtype, got {sorted(kinds)}")
    ((dim, dtype),) = kinds
    limits = [RankLimits(fast_bytes)] * num_ranks
    return plan_shards(trace, limits, embedding_dim=dim, dtype=dtype)
