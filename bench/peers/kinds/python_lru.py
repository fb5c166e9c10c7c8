"""What most teams start with: an LRU in Python over direct reads of the file."""

from __future__ import annotations

import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.peers.dataset import Dataset
from bench.peers.loads import Batch
from bench.peers.peer import OneTable, Peer

_BLOCK = 4096


class PythonLru(Peer):
    """An OrderedDict from row to slot before `os.preadv` with O_DIRECT, a block a miss.

    Its rows take the whole budget; what the dictionary takes comes on top, which favours it.
    """

    name = "Python LRU, O_DIRECT pread"
    has_budget = True

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        super().__init__(dataset, budget)
        self._one_table = OneTable(dataset)
        slots = dataset.rows if budget is None else max(1, budget // dataset.row_bytes)
        self._capacity = min(slots, dataset.rows)
        self._slot_of: OrderedDict[int, int] = OrderedDict()
        self._misses = self._lookups = 0

    def prepare(self) -> None:
        pass

    def load(self) -> None:
        self._slots = np.zeros((self._capacity, self.dataset.dim), dtype=np.float32)
        self._descriptor = os.open(self.dataset.path, os.O_RDONLY | os.O_DIRECT)
        # A row may begin in one block and end in the next. O_DIRECT wants aligned memory.
        blocks = -(-self.dataset.row_bytes // _BLOCK) + (_BLOCK % self.dataset.row_bytes != 0)
        self._block = mmap.mmap(-1, blocks * _BLOCK)
        self._in_block = np.frombuffer(self._block, dtype=np.uint8)

    def embedding_bag(self, batch: Batch) -> Any:
        rows = self._one_table.rows_of(batch)
        gathered = np.empty((len(rows), self.dataset.dim), dtype=np.float32)
        slot_of, slots = self._slot_of, self._slots
        for position, row in enumerate(rows.tolist()):
            slot = slot_of.get(row)
            if slot is None:
                slot = self._fetch(row)
            else:
                slot_of.move_to_end(row)
            gathered[position] = slots[slot]
        self._lookups += len(rows)
        return self._one_table.pool(gathered, batch.offsets)

    def _fetch(self, row: int) -> int:
        self._misses += 1
        if len(self._slot_of) < self._capacity:
            slot = len(self._slot_of)
        else:
            _, slot = self._slot_of.popitem(last=False)
        row_bytes = self.dataset.row_bytes
        offset = row * row_bytes
        within = offset % _BLOCK
        os.preadv(self._descriptor, [self._block], offset - within)
        self._slots[slot] = self._in_block[within : within + row_bytes].view(np.float32)
        self._slot_of[row] = slot
        return slot

    def fill(self, batches: Sequence[Batch]) -> bool:
        # Served one by one, a second of warming up would bring some ten thousand rows.
        rows = np.concatenate([self._one_table.rows_of(batch) for batch in batches])
        _, recency = np.unique(rows[::-1], return_index=True)
        kept = rows[::-1][np.sort(recency)[: self._capacity]][::-1]  # the oldest first
        self._slot_of = OrderedDict(zip(kept.tolist(), range(len(kept)), strict=True))
        ascending = np.argsort(kept)
        first = 0
        for chunk in self.dataset.chunks():
            begin, end = np.searchsorted(kept, (first, first + len(chunk)), sorter=ascending)
            slots = ascending[begin:end]
            self._slots[slots] = chunk[kept[slots] - first]
            first += len(chunk)
        return True

    def misses(self) -> tuple[int, int]:
        return self._lookups, self._misses

    def dram_bytes(self) -> int:
        bookkeeping = sys.getsizeof(self._slot_of) + 64 * len(self._slot_of)
        return int(self._slots.nbytes) + bookkeeping

    def close(self) -> None:
        os.close(self._descriptor)
        self._slot_of.clear()
        del self._slots
