"""LMDB: a B+ tree in a memory map, its cache the kernel's page cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil

from bench.peers.dataset import Dataset, drop_page_cache
from bench.peers.loads import Batch
from bench.peers.peer import OneTable, Peer, import_refusal

_KEYS_PER_CALL = 1024


class LmdbStore(Peer):
    """Rows by number in big-endian order, asked for many at a time and each once a batch."""

    name = "LMDB"
    has_budget = True
    needs_cgroup = True

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        super().__init__(dataset, budget)
        self._one_table = OneTable(dataset)
        self._path = dataset.directory / "rows.lmdb"

    @classmethod
    def refusal(cls) -> str | None:
        return import_refusal("lmdb")

    def prepare(self) -> None:
        if not self._path.exists():
            self._build()
        drop_page_cache(self._path)

    def _build(self) -> None:
        import lmdb

        size = 2 * self.dataset.rows * (self.dataset.row_bytes + 64) + (64 << 20)
        environment = lmdb.open(
            str(self._path), subdir=False, lock=False, map_size=size, writemap=True, sync=False
        )
        first = 0
        for chunk in self.dataset.chunks():
            keys = keys_of(np.arange(first, first + len(chunk)))
            with environment.begin(write=True) as transaction:
                items = zip(keys, map(bytes, chunk), strict=True)
                transaction.cursor().putmulti(items, append=True)
            first += len(chunk)
        environment.sync(True)
        environment.close()

    def load(self) -> None:
        import lmdb

        self._environment = lmdb.open(
            str(self._path), subdir=False, lock=False, readonly=True, readahead=False
        )

    def embedding_bag(self, batch: Batch) -> Any:
        rows, positions = np.unique(self._one_table.rows_of(batch), return_inverse=True)
        keys = keys_of(rows)
        values = np.empty((len(rows), self.dataset.dim), dtype=np.float32)
        with self._environment.begin(buffers=True) as transaction:
            cursor = transaction.cursor()
            for first in range(0, len(keys), _KEYS_PER_CALL):
                found = cursor.getmulti(keys[first : first + _KEYS_PER_CALL])
                joined = b"".join([value for _, value in found])
                values[first : first + len(found)].reshape(-1)[:] = np.frombuffer(
                    joined, dtype=np.float32
                )
        return self._one_table.pool(values[positions], batch.offsets)

    def dram_bytes(self) -> int:
        return int(psutil.Process().memory_info().shared)  # pages of files; a cgroup knows better

    def close(self) -> None:
        self._environment.close()


def keys_of(rows: Any) -> list[bytes]:
    """Row numbers as keys that sort as they do."""
    joined = np.asarray(rows).astype(">u8").tobytes()
    return [joined[i : i + 8] for i in range(0, len(joined), 8)]
