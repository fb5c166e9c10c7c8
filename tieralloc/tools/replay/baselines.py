"""Baselines of a replay: rows of a plain file behind numpy.memmap, or behind an LRU in Python.

A baseline has the part of a store's interface that `callers.serve` needs. `warm` brings the cache
into the state after a stream of accesses without serving it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.tools.replay.callers import Call
    from tieralloc.tools.replay.source import SourceRows

_BLOCK = 4096
_PART_ROWS = 1 << 15  # read at a time by `warm`
#: DRAM of an OrderedDict's entry with its two integers, about.
ENTRY_BYTES = 200


class _Table(NamedTuple):
    position: int
    embedding_dim: int


class Baseline(ABC):
    """Serves calls from a plain file of rows within `max_bytes` of DRAM.

    Parameters
    ----------
    path : path
        File of `write_rows`.
    source : SourceRows
        Values of the rows.
    max_bytes : int
        DRAM of the cache.
    """

    label: ClassVar[str]

    def __init__(self, path: Path, source: SourceRows, max_bytes: int) -> None:
        self.path = path
        self.source = source
        self.row_bytes = 4 * source.embedding_dim
        self.lookups = self.misses = self.evictions = 0
        self._first_rows = np.cumsum((0, *source.num_embeddings[:-1]))
        self.tables = {
            str(position): _Table(position, source.embedding_dim)
            for position in range(len(source.num_embeddings))
        }
        self.open(max_bytes)

    @abstractmethod
    def open(self, max_bytes: int) -> None:
        """Open the file, with an empty cache."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the values of rows, numbered across tables: (n, dim)."""

    @abstractmethod
    def warm(self, rows: NDArray[np.int64]) -> None:
        """Bring the cache into the state after accesses to these rows, in this order."""

    def settle(self, call: Call) -> None:  # noqa: B027
        """Do what belongs to no call, after each one: its time is not measured."""

    @property
    @abstractmethod
    def fast_rows(self) -> int:
        """Rows that fit into the cache."""

    @property
    @abstractmethod
    def dram_bytes(self) -> int:
        """DRAM of the cache."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def embedding_bag(
        self,
        indices: NDArray[np.int64],
        offsets: NDArray[np.int64],
        tables: Sequence[Any],
        *,
        out: NDArray[np.float32],
    ) -> None:
        """Write the sum of each bag into `out`, as a store does."""
        rows = self.rows_of(indices, offsets, [table.position for table in tables])
        sums = pool(self.take(rows), offsets)
        bags = len(out)
        out.reshape(bags, len(tables), -1)[:] = sums.reshape(len(tables), bags, -1).swapaxes(0, 1)

    def rows_of(
        self, indices: NDArray[np.int64], offsets: NDArray[np.int64], tables: Sequence[int]
    ) -> NDArray[np.int64]:
        """Return the rows of a table-major call, numbered across tables."""
        ends = offsets[:: (len(offsets) - 1) // len(tables)]
        rows: NDArray[np.int64] = indices + np.repeat(self._first_rows[tables], np.diff(ends))
        return rows

    def rows_of_call(self, call: Call) -> NDArray[np.int64]:
        """Return the rows of a call, numbered across tables."""
        tables = range(len(self.tables)) if call.table is None else [call.table]
        return self.rows_of(call.indices, call.offsets, list(tables))


class PythonLru(Baseline):
    """An OrderedDict from row to slot, the oldest first, and a direct read per miss."""

    label = "Python LRU"

    def open(self, max_bytes: int) -> None:
        """Open the file; the dictionary's entries count as DRAM."""
        capacity = max(1, max_bytes // (self.row_bytes + ENTRY_BYTES))
        self.capacity = min(capacity, sum(self.source.num_embeddings))
        self._lock = threading.Lock()
        self._slot_of: OrderedDict[int, int] = OrderedDict()
        self._slots = np.zeros((self.capacity, self.source.embedding_dim), dtype=np.float32)
        self._descriptor = os.open(self.path, os.O_RDONLY | _direct_flag(self.path))
        # A row may span two blocks. O_DIRECT needs aligned memory.
        blocks = -(-self.row_bytes // _BLOCK) + (_BLOCK % self.row_bytes != 0)
        self._block = mmap.mmap(-1, blocks * _BLOCK)
        self._in_block = np.frombuffer(self._block, dtype=np.uint8)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the values of rows; each missing one is read on its own."""
        values = np.empty((len(rows), self.source.embedding_dim), dtype=np.float32)
        slot_of, slots = self._slot_of, self._slots
        with self._lock:
            for position, row in enumerate(rows.tolist()):
                slot = slot_of.get(row)
                if slot is None:
                    slot = self._fetch(row)
                else:
                    slot_of.move_to_end(row)
                values[position] = slots[slot]
            self.lookups += len(rows)
        return values

    def _fetch(self, row: int) -> int:
        self.misses += 1
        if len(self._slot_of) < self.capacity:
            slot = len(self._slot_of)
        else:
            _, slot = self._slot_of.popitem(last=False)
            self.evictions += 1
        block, within = divmod(row * self.row_bytes, _BLOCK)
        os.preadv(self._descriptor, [self._block], block * _BLOCK)
        self._slots[slot] = self._in_block[within : within + self.row_bytes].view(np.float32)
        self._slot_of[row] = slot
        return slot

    def warm(self, rows: NDArray[np.int64]) -> None:
        """Fill the slots with the rows that serving would leave."""
        held = np.fromiter(self._slot_of, dtype=np.int64, count=len(self._slot_of))
        kept = _by_last_use(np.concatenate([held, rows]))[-self.capacity :]
        self._slot_of = OrderedDict(zip(kept.tolist(), range(len(kept)), strict=True))
        for first in range(0, len(kept), _PART_ROWS):
            part = kept[first : first + _PART_ROWS]
            self._slots[first : first + len(part)] = self.source.rows_across(part)

    @property
    def fast_rows(self) -> int:
        """The slots."""
        return self.capacity

    @property
    def dram_bytes(self) -> int:
        """Slots, the dictionary and its integers."""
        integers = 64 * len(self._slot_of)
        return int(self._slots.nbytes) + sys.getsizeof(self._slot_of) + integers

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Memmap(Baseline):
    """numpy.memmap: the page cache is the fast tier.

    No process can limit its page cache without a memory cgroup. After each call, outside the
    measured time, the least recently used pages beyond the limit are dropped from it.
    """

    label = "numpy.memmap"

    def open(self, max_bytes: int) -> None:
        """Map the file and drop its page cache."""
        drop_page_cache(self.path)
        self.max_pages = max(1, max_bytes // _BLOCK)
        self._rows = map_rows(self.path, self.source.embedding_dim)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self._lock = threading.Lock()
        self._buffers = threading.local()  # reused by the calls of a thread
        self._pages: dict[int, None] = {}  # in the page cache, by last use

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the values of rows, valid until the next call of the thread."""
        buffer = getattr(self._buffers, "rows", None)
        if buffer is None or len(buffer) < len(rows):
            shape = (len(rows), self.source.embedding_dim)
            buffer = self._buffers.rows = np.zeros(shape, dtype=np.float32)
        # mode="clip", because the default gathers into another buffer first.
        return np.take(self._rows, rows, axis=0, out=buffer[: len(rows)], mode="clip")

    def settle(self, call: Call) -> None:
        """Count the pages that the call read, and drop the oldest ones."""
        rows = self.rows_of_call(call)
        with self._lock:
            self.lookups += len(rows)
            for page in _by_last_use(self._pages_of(rows)).tolist():
                self.misses += page not in self._pages
                self._pages.pop(page, None)
                self._pages[page] = None
            self._trim()

    def _pages_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        first = rows * self.row_bytes // _BLOCK
        last = (rows * self.row_bytes + self.row_bytes - 1) // _BLOCK
        return np.stack([first, last], axis=1).ravel()

    def _trim(self) -> None:
        surplus = len(self._pages) - self.max_pages
        if surplus <= 0:
            return
        for page, _ in zip(list(self._pages), range(surplus), strict=False):
            del self._pages[page]
            self.evictions += 1
            # The kernel drops only pages that no process has mapped.
            self._rows._mmap.madvise(mmap.MADV_DONTNEED, page * _BLOCK, _BLOCK)
            os.posix_fadvise(self._descriptor, page * _BLOCK, _BLOCK, os.POSIX_FADV_DONTNEED)

    def warm(self, rows: NDArray[np.int64]) -> None:
        """Read the pages that serving would leave."""
        with self._lock:
            for page in _by_last_use(self._pages_of(rows))[-self.max_pages :].tolist():
                if page not in self._pages:
                    offset = page * _BLOCK
                    os.posix_fadvise(self._descriptor, offset, _BLOCK, os.POSIX_FADV_WILLNEED)
                self._pages.pop(page, None)
                self._pages[page] = None
            evictions = self.evictions
            self._trim()
            self.evictions = evictions

    @property
    def fast_rows(self) -> int:
        """Rows in the pages of the limit."""
        return min(self.max_pages * _BLOCK // self.row_bytes, sum(self.source.num_embeddings))

    @property
    def dram_bytes(self) -> int:
        """The file's page cache, as the kernel reports it."""
        return resident_pages(self.path) * _BLOCK

    def close(self) -> None:
        """Unmap the file."""
        os.close(self._descriptor)
        del self._rows


def write_rows(path: Path, source: SourceRows) -> None:
    """Write the rows of all tables, one after the other, as float32."""
    with path.open("wb") as file:
        for table in range(len(source.num_embeddings)):
            for part in source.parts(table):
                part.tofile(file)
    drop_page_cache(path)


def _by_last_use(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values in the order of their last positions."""
    backwards = values[::-1]
    _, positions = np.unique(backwards, return_index=True)
    return backwards[np.sort(positions)][::-1]


def _direct_flag(path: Path) -> int:
    """Return O_DIRECT where the file system has it."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return 0
    return os.O_DIRECT


def pool(rows: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the sum of each bag, given the rows of all bags."""
    lengths = np.diff(offsets)
    if len(lengths) and lengths[0] > 0 and (lengths == lengths[0]).all():
        bags: NDArray[np.float32] = rows.reshape(len(lengths), lengths[0], rows.shape[1])
        return np.asarray(bags.sum(axis=1))
    sums = np.zeros((len(lengths), rows.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(lengths)
    if len(filled):
        # Bags between the starts of two filled ones are empty.
        sums[filled] = np.add.reduceat(rows, offsets[filled], axis=0)
    return sums


def map_rows(path: Path, dim: int, mode: Any = "r") -> Any:
    """Map a file as rows of float32, read one page at a time instead of 128 KiB around a row."""
    values: Any = np.memmap(path, dtype=np.float32, mode=mode)
    values._mmap.madvise(mmap.MADV_RANDOM)
    return values[: len(values) // dim * dim].reshape(-1, dim)


def drop_page_cache(path: Path) -> None:
    """Write a file to the disk and drop its pages in the page cache, except mapped pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def resident_pages(path: Path) -> int:
    """Return the pages of a file in the page cache."""
    size = path.stat().st_size
    if size == 0:
        return 0
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    values: Any = np.memmap(path, dtype=np.uint8, mode="r")
    states = np.zeros(-(-size // _BLOCK), dtype=np.uint8)
    if mincore(values.ctypes.data, size, states.ctypes.data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return int(np.count_nonzero(states & 1))
