"""torch.nn.functional.embedding_bag with every row in DRAM: the upper bound."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from bench.peers.loads import Batch
from bench.peers.peer import Peer, bag_count, import_refusal


class TorchDram(Peer):
    """Memory as torch gets it by default."""

    name = "torch"
    side_by_side = True

    @classmethod
    def refusal(cls) -> str | None:
        return import_refusal("torch")

    def prepare(self) -> None:
        pass

    def load(self) -> None:
        import torch

        values = self._memory()
        first = 0
        for chunk in self.dataset.chunks():
            values[first : first + len(chunk)] = torch.from_numpy(chunk)
            first += len(chunk)
        self._tables = list(torch.split(values, list(self.dataset.table_rows)))

    def _memory(self) -> Any:
        import torch

        # Not by way of NumPy, which asks for huge pages.
        return torch.empty((self.dataset.rows, self.dataset.dim))

    def use_threads(self, count: int) -> None:
        import torch

        torch.set_num_threads(count)

    def embedding_bag(self, batch: Batch) -> Any:
        import torch
        from torch.nn.functional import embedding_bag

        indices, offsets = torch.from_numpy(batch.indices), torch.from_numpy(batch.offsets)
        with torch.inference_mode():
            if len(self._tables) == 1:
                return embedding_bag(
                    indices, self._tables[0], offsets, mode="sum", include_last_offset=True
                )
            bags = bag_count(self.dataset, batch)
            ends = offsets[::bags].tolist()
            results = []
            for number, table in enumerate(self._tables):
                first, last = ends[number], ends[number + 1]
                of_table = offsets[number * bags : (number + 1) * bags + 1] - first
                results.append(
                    embedding_bag(
                        indices[first:last], table, of_table, mode="sum", include_last_offset=True
                    )
                )
            return torch.cat(results, dim=1)

    def dram_bytes(self) -> int:
        return self.dataset.rows * self.dataset.row_bytes

    def close(self) -> None:
        self._tables.clear()


class TorchHugePages(TorchDram):
    """The table on huge pages, as tieralloc's fast pool is: not what torch does by itself."""

    name = "torch on huge pages"

    def _memory(self) -> Any:
        import torch

        memory = mmap.mmap(-1, self.dataset.rows * self.dataset.row_bytes)
        memory.madvise(mmap.MADV_HUGEPAGE)
        values = np.frombuffer(memory, dtype=np.float32).reshape(-1, self.dataset.dim)
        return torch.from_numpy(values)
