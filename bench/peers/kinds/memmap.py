"""numpy.memmap: the kernel's page cache as the fast tier."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import psutil

from bench.peers.dataset import Dataset, drop_page_cache
from bench.peers.loads import Batch
from bench.peers.peer import OneTable, Peer


class NumpyMemmap(Peer):
    """Rows taken from a map of the file, whose pages the kernel is told to read singly.

    Without that advice it reads 128 KiB around every row, which at random rows is slower still.
    """

    name = "numpy.memmap"
    has_budget = True
    needs_cgroup = True

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        super().__init__(dataset, budget)
        self._one_table = OneTable(dataset)
        self._gathered = np.zeros((0, dataset.dim), dtype=np.float32)  # used again and again

    def prepare(self) -> None:
        drop_page_cache(self.dataset.path)

    def load(self) -> None:
        self._rows = map_file(self.dataset.path, self.dataset.dim)

    def embedding_bag(self, batch: Batch) -> Any:
        rows = self._one_table.rows_of(batch)
        if len(self._gathered) < len(rows):
            self._gathered = np.zeros((len(rows), self.dataset.dim), dtype=np.float32)
        gathered = self._gathered[: len(rows)]
        # mode="clip", as the default would gather into a buffer of its own first.
        np.take(self._rows, rows, axis=0, out=gathered, mode="clip")
        return self._one_table.pool(gathered, batch.offsets)

    def dram_bytes(self) -> int:
        return int(psutil.Process().memory_info().shared)  # pages of files; a cgroup knows better

    def close(self) -> None:
        del self._rows


def map_file(path: str | os.PathLike[str], dim: int) -> Any:
    """Map a file as rows of float32 that are read one page at a time."""
    values: Any = np.memmap(path, dtype=np.float32, mode="r")
    values._mmap.madvise(mmap.MADV_RANDOM)
    return values[: len(values) // dim * dim].reshape(-1, dim)
