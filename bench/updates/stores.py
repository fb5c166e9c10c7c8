"""The adapters of bench.peers, opened to write.

`update` sets rows, and `sync` makes all earlier updates durable. Both are called by one thread,
while another may serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import opened
from bench.peers.in_dram import Tieralloc
from bench.peers.on_disk import Lmdb, Memmap, RocksDb, keys_of
from bench.peers.workloads import Dataset, Workload
from tieralloc.tools.replay.baselines import map_rows


class TierallocToUpdate(Tieralloc):
    """`Table.update`, and `TieredStore.flush`."""

    def update(self, rows: Any, values: Any) -> None:
        self.store.table("table0").update(rows, values)

    def sync(self) -> None:
        self.store.flush()


class MemmapToUpdate(Memmap):
    """Assignment to a memory map, and msync."""

    def open(self) -> None:
        super().open()
        self._rows = map_rows(self.dataset.path, self.dataset.dim, mode="r+")

    def update(self, rows: Any, values: Any) -> None:
        self._rows[rows] = values

    def sync(self) -> None:
        self._rows.flush()


class LmdbToUpdate(Lmdb):
    """Puts into one transaction, and its commit."""

    read_only = False
    space = 8  # an updated page gets a new place
    _transaction: Any = None

    def update(self, rows: Any, values: Any) -> None:
        if self._transaction is None:
            self._transaction = self._environment.begin(write=True)
        items = zip(keys_of(rows), map(bytes, values), strict=True)
        self._transaction.cursor().putmulti(items)

    def sync(self) -> None:
        if self._transaction is not None:
            self._transaction.commit()
            self._transaction = None


class RocksDbToUpdate(RocksDb):
    """Write batches, and a sync of the write-ahead log."""

    def update(self, rows: Any, values: Any) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for key, value in zip(keys_of(rows), map(bytes, values), strict=True):
            batch.put(key, value)
        self._database.write(batch)

    def sync(self) -> None:
        self._database.flush_wal(True)


Updatable: TypeAlias = TierallocToUpdate | MemmapToUpdate | LmdbToUpdate | RocksDbToUpdate
KINDS: tuple[type[Updatable], ...] = (
    TierallocToUpdate,
    MemmapToUpdate,
    LmdbToUpdate,
    RocksDbToUpdate,
)


@contextmanager
def opened_to_update(
    kind: type[Updatable], dataset: Dataset, workload: Workload, budget: int
) -> Iterator[Any]:
    """Open an adapter in this process; its files are created and their cached pages dropped."""
    if (reason := kind.refusal()) is not None:
        raise BaselineFailedError(reason)
    with opened(kind, dataset, workload, budget) as adapter:
        yield adapter
