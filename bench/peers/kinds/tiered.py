"""tieralloc itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import tieralloc as ta
from bench.peers.dataset import Dataset
from bench.peers.loads import Batch
from bench.peers.peer import Peer

_LOOKUP_ROWS = 1 << 16


class Tiered(Peer):
    """A store opened with `budget` bytes for everything, or with a slot for every row asked for."""

    name = "tieralloc"
    has_budget = True
    side_by_side = True

    def __init__(self, dataset: Dataset, budget: int | None, file_name: str = "emb.tier") -> None:
        super().__init__(dataset, budget)
        self._fast_rows = dataset.rows
        self.path = dataset.directory / file_name
        self.store: ta.TieredStore

    def prepare(self) -> None:
        if self.path.exists():
            return
        with ta.TieredStore(self.path, fast_rows=len(self.dataset.table_rows)) as store:
            for number, rows in enumerate(self.dataset.table_rows):
                store.create_table(f"table{number}", rows, self.dataset.dim)
            for number, table in enumerate(store.tables.values()):
                table.load(self.dataset.table_chunks(number))

    def load(self) -> None:
        if self.budget is not None:
            self.store = ta.TieredStore(self.path, mode="r+", fast_bytes=self.budget)
            return
        self.store = ta.TieredStore(self.path, mode="r+", fast_rows=self._fast_rows)
        left = self._fast_rows
        for table in self.store.tables.values():
            for first in range(0, min(left, len(table)), _LOOKUP_ROWS):
                table.lookup(np.arange(first, min(first + _LOOKUP_ROWS, left, len(table))))
            left -= min(left, len(table))
        self.store.reset_stats()

    def embedding_bag(self, batch: Batch) -> Any:
        return self.store.embedding_bag(batch.indices, batch.offsets)

    def dram_bytes(self) -> int:
        return int(self.store.stats()["dram_bytes"]["total"])

    def misses(self) -> tuple[int, int]:
        stats = self.store.stats()
        return stats["lookups"], stats["on_demand_fetches"]

    def close(self) -> None:
        self.store.close()


class TieredAndPolicy(Tiered):
    """As `Tiered`, with no slots for rows that nobody asks for.

    Nothing is ever evicted either, but it could be: the policy is told of every access.
    """

    name = "tieralloc and policy"
    has_budget = False

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        super().__init__(dataset, budget, "policy.tier")
        self._fast_rows = dataset.rows - dataset.unused_rows
