"""tieralloc itself, and baselines with all rows in DRAM: the upper bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tieralloc as ta
from bench.peers.adapter import Adapter
from bench.peers.workloads import Batch

_LOOKUP_ROWS = 1 << 16


class Tieralloc(Adapter):
    """A store opened with `budget` bytes for everything, or with a slot for every row."""

    name = "tieralloc"
    has_budget = True
    side_by_side = True
    file_name = "emb.tier"
    store: ta.TieredStore

    @property
    def path(self) -> Path:
        return self.dataset.directory / self.file_name

    @property
    def fast_rows(self) -> int:
        return self.dataset.rows

    def prepare(self) -> None:
        if self.path.exists():
            return
        with ta.TieredStore(self.path, fast_rows=len(self.dataset.table_rows)) as store:
            for number, rows in enumerate(self.dataset.table_rows):
                table = store.create_table(f"table{number}", rows, self.dataset.dim)
                table.load(self.dataset.table_parts(number))

    def open(self) -> None:
        file = ta.File(self.path, mode="r+", warm_restart_interval=None)
        if self.budget is not None:
            self.store = ta.TieredStore(slow=file, fast_bytes=self.budget)
            return
        self.store = ta.TieredStore(slow=file, fast_rows=self.fast_rows)
        left = self.fast_rows
        for table in self.store.tables.values():
            count = min(left, len(table))
            for rows in np.array_split(np.arange(count), count // _LOOKUP_ROWS + 1):
                table.lookup(rows)
            left -= count
        self.store.reset_stats()

    def embedding_bag(self, batch: Batch) -> Any:
        return self.store.embedding_bag(batch.indices, batch.offsets)

    def dram_bytes(self) -> int:
        return int(self.store.stats().dram.total_bytes)

    def misses(self) -> tuple[int, int]:
        stats = self.store.stats()
        return stats.lookups, stats.on_demand_fetches

    def close(self) -> None:
        self.store.close()


class TierallocWithPolicy(Tieralloc):
    """No slots for unused rows: no evictions, but the policy is notified of each access."""

    name = "tieralloc, policy notified"
    has_budget = False
    file_name = "policy.tier"

    @property
    def fast_rows(self) -> int:
        return self.dataset.rows - self.workload.unused_rows


class Torch(Adapter):
    """torch.nn.functional.embedding_bag, in memory as torch allocates it."""

    name = "torch"
    modules = ("torch",)
    side_by_side = True

    def open(self) -> None:
        import torch

        values = torch.empty((self.dataset.rows, self.dataset.dim))
        for first, part in self.dataset.parts():
            values[first : first + len(part)] = torch.from_numpy(part)
        self._tables = list(torch.split(values, list(self.dataset.table_rows)))

    def use_threads(self, count: int) -> None:
        import torch

        torch.set_num_threads(count)

    def embedding_bag(self, batch: Batch) -> Any:
        import torch
        from torch.nn.functional import embedding_bag

        indices, offsets = torch.from_numpy(batch.indices), torch.from_numpy(batch.offsets)
        bags = self.dataset.bag_count(batch)
        with torch.inference_mode():
            if len(self._tables) == 1:
                (table,) = self._tables
                return embedding_bag(indices, table, offsets, mode="sum", include_last_offset=True)
            ends = offsets[::bags].tolist()
            return torch.cat(
                [
                    embedding_bag(
                        indices[ends[number] : ends[number + 1]],
                        table,
                        offsets[number * bags : (number + 1) * bags + 1] - ends[number],
                        mode="sum",
                        include_last_offset=True,
                    )
                    for number, table in enumerate(self._tables)
                ],
                dim=1,
            )

    def close(self) -> None:
        self._tables.clear()


class Fbgemm(Torch):
    """IntNBitTableBatchedEmbeddingBagsCodegen at FP32 with EmbeddingLocation.HOST."""

    name = "FBGEMM"
    modules = ("torch", "fbgemm_gpu")

    def open(self) -> None:
        import torch
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
            IntNBitTableBatchedEmbeddingBagsCodegen,
        )

        specs = [
            (f"table{number}", rows, self.dataset.dim, SparseType.FP32, EmbeddingLocation.HOST)
            for number, rows in enumerate(self.dataset.table_rows)
        ]
        self._operator = IntNBitTableBatchedEmbeddingBagsCodegen(
            specs, device="cpu", output_dtype=SparseType.FP32
        )
        self._operator.initialize_weights()
        for number, (weights, _) in enumerate(self._operator.split_embedding_weights()):
            parts = [torch.from_numpy(part) for part in self.dataset.table_parts(number)]
            torch.cat(parts, out=weights.view(torch.float32))

    def embedding_bag(self, batch: Batch) -> Any:
        import torch

        with torch.inference_mode():
            return self._operator(torch.from_numpy(batch.indices), torch.from_numpy(batch.offsets))

    def close(self) -> None:
        del self._operator
