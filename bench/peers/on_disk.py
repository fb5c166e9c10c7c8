"""Baselines that serve from a disk through a cache of limited size."""

from __future__ import annotations

import mmap
import os
import sys
from abc import abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.peers.adapter import BaselineFailedError, OneTable
from bench.peers.workloads import drop_page_cache, map_rows

_BLOCK = 4096


class Memmap(OneTable):
    """numpy.memmap: the page cache is the fast tier."""

    name = "numpy.memmap"
    needs_cgroup = True

    def prepare(self) -> None:
        drop_page_cache(self.dataset.path)

    def open(self) -> None:
        self._rows = map_rows(self.dataset.path, self.dataset.dim)
        self._buffer = np.zeros((0, self.dataset.dim), dtype=np.float32)  # reused by all calls

    def take(self, rows: Any) -> Any:
        if len(self._buffer) < len(rows):
            self._buffer = np.zeros((len(rows), self.dataset.dim), dtype=np.float32)
        # mode="clip", because the default gathers into another buffer first.
        return np.take(self._rows, rows, axis=0, out=self._buffer[: len(rows)], mode="clip")

    def dram_bytes(self) -> int:
        return int(psutil.Process().memory_info().shared)  # pages of files

    def close(self) -> None:
        del self._rows


class KeyValueStore(OneTable):
    """Rows by keys; a batch reads all its distinct rows in one call."""

    def take(self, rows: Any) -> Any:
        distinct, positions = np.unique(rows, return_inverse=True)
        values = np.frombuffer(self.joined(keys_of(distinct)), dtype=np.float32)
        return values.reshape(len(distinct), self.dataset.dim)[positions]

    @abstractmethod
    def joined(self, keys: list[bytes]) -> bytes:
        """Return the values of ascending keys, one after the other."""


def keys_of(rows: Any) -> list[bytes]:
    """Return row numbers as keys of the same order."""
    joined = rows.astype(">u8").tobytes()
    return [joined[i : i + 8] for i in range(0, len(joined), 8)]


class Lmdb(KeyValueStore):
    """LMDB, a B+ tree in a memory map: `getmulti` of the distinct rows of a batch."""

    name = "LMDB"
    modules = ("lmdb",)
    needs_cgroup = True
    read_only = True
    space = 2  # times the bytes of the rows
    _KEYS_PER_CALL = 1024

    @property
    def _path(self) -> Path:
        return self.dataset.directory / "rows.lmdb"

    @property
    def _map_size(self) -> int:
        return self.space * self.dataset.rows * (self.dataset.row_bytes + 64) + (64 << 20)

    def prepare(self) -> None:
        import lmdb

        if not self._path.exists():
            with lmdb.open(
                str(self._path),
                subdir=False,
                lock=False,
                map_size=self._map_size,
                writemap=True,
                sync=False,
            ) as environment:
                for first, part in self.dataset.parts():
                    keys = keys_of(np.arange(first, first + len(part)))
                    with environment.begin(write=True) as transaction:
                        items = zip(keys, map(bytes, part), strict=True)
                        transaction.cursor().putmulti(items, append=True)
                environment.sync(True)
        drop_page_cache(self._path)

    def open(self) -> None:
        import lmdb

        self._environment = lmdb.open(
            str(self._path),
            subdir=False,
            lock=not self.read_only,
            readonly=self.read_only,
            map_size=self._map_size,
            readahead=False,
        )

    def joined(self, keys: list[bytes]) -> bytes:
        with self._environment.begin(buffers=True) as transaction:
            cursor = transaction.cursor()
            step = self._KEYS_PER_CALL
            calls = (cursor.getmulti(keys[i : i + step]) for i in range(0, len(keys), step))
            return b"".join([value for items in calls for _, value in items])

    def dram_bytes(self) -> int:
        return int(psutil.Process().memory_info().shared)  # pages of files

    def close(self) -> None:
        self._environment.close()


class RocksDb(KeyValueStore):
    """RocksDB: a multi-get of the distinct rows of a batch, block cache, direct reads."""

    name = "RocksDB"
    modules = ("rocksdict",)
    _ALL_CACHED = 4 << 30

    @property
    def _path(self) -> Path:
        return self.dataset.directory / "rows.rocksdb"

    def _options(self) -> Any:
        from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

        self._cache = Cache(self.budget or self._ALL_CACHED)
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_block_size(_BLOCK)
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(DBCompressionType.none())
        options.set_use_direct_reads(True)
        return options

    def _open(self) -> Any:
        from rocksdict import Rdict

        options = self._options()
        # Without column families the options of the file apply, with a cache of 8 MiB.
        return Rdict(str(self._path), options, column_families={"default": options})

    def prepare(self) -> None:
        if self._path.exists():
            return
        from rocksdict import WriteBatch

        database = self._open()
        for first, part in self.dataset.parts():
            batch = WriteBatch(raw_mode=True)
            for key, value in zip(keys_of(np.arange(first, first + len(part))), part, strict=True):
                batch.put(key, value.tobytes())
            database.write(batch)
        database.compact_range(None, None)
        database.close()

    def open(self) -> None:
        from rocksdict import ReadOptions

        self._database = self._open()
        capacity = self._database.property_int_value("rocksdb.block-cache-capacity")
        if self.budget is not None and capacity != self.budget:
            raise BaselineFailedError(f"RocksDB: cache of {capacity} bytes, not {self.budget}")
        options = ReadOptions()
        options.set_async_io(True)
        options.set_verify_checksums(False)
        self._database.set_read_options(options)

    def joined(self, keys: list[bytes]) -> bytes:
        return b"".join(self._database[keys])

    def dram_bytes(self) -> int:
        readers = self._database.property_int_value("rocksdb.estimate-table-readers-mem") or 0
        return int(self._cache.get_usage() + readers)

    def close(self) -> None:
        self._database.close()


class PythonLru(OneTable):
    """An OrderedDict from row to slot before `os.preadv` with O_DIRECT, a block per miss.

    Its rows take the whole budget; the dictionary comes on top, which favours it.
    """

    name = "Python LRU, O_DIRECT pread"

    def open(self) -> None:
        budget = self.budget or self.dataset.rows * self.dataset.row_bytes
        self._capacity = min(max(1, budget // self.dataset.row_bytes), self.dataset.rows)
        self._slot_of: OrderedDict[int, int] = OrderedDict()
        self._lookups = self._misses = 0
        self._slots = np.zeros((self._capacity, self.dataset.dim), dtype=np.float32)
        self._descriptor = os.open(self.dataset.path, os.O_RDONLY | os.O_DIRECT)
        # A row may span two blocks. O_DIRECT needs aligned memory.
        blocks = -(-self.dataset.row_bytes // _BLOCK) + (_BLOCK % self.dataset.row_bytes != 0)
        self._block = mmap.mmap(-1, blocks * _BLOCK)
        self._in_block = np.frombuffer(self._block, dtype=np.uint8)

    def take(self, rows: Any) -> Any:
        values = np.empty((len(rows), self.dataset.dim), dtype=np.float32)
        slot_of, slots = self._slot_of, self._slots
        for position, row in enumerate(rows.tolist()):
            slot = slot_of.get(row)
            if slot is None:
                slot = self._fetch(row)
            else:
                slot_of.move_to_end(row)
            values[position] = slots[slot]
        self._lookups += len(rows)
        return values

    def _fetch(self, row: int) -> int:
        self._misses += 1
        if len(self._slot_of) < self._capacity:
            slot = len(self._slot_of)
        else:
            _, slot = self._slot_of.popitem(last=False)
        block, within = divmod(row * self.dataset.row_bytes, _BLOCK)
        os.preadv(self._descriptor, [self._block], block * _BLOCK)
        values = self._in_block[within : within + self.dataset.row_bytes]
        self._slots[slot] = values.view(np.float32)
        self._slot_of[row] = slot
        return slot

    def warm(self, seconds: float) -> None:
        """Fill the cache with the rows that serving would leave, without the minutes of serving."""
        rows = np.concatenate([self.dataset.rows_of(batch) for batch in self.workload.warm])
        _, recency = np.unique(rows[::-1], return_index=True)
        kept = rows[::-1][np.sort(recency)[: self._capacity]][::-1]  # the oldest first
        self._slot_of = OrderedDict(zip(kept.tolist(), range(len(kept)), strict=True))
        ascending = np.argsort(kept)
        for first, part in self.dataset.parts():
            begin, end = np.searchsorted(kept, (first, first + len(part)), sorter=ascending)
            slots = ascending[begin:end]
            self._slots[slots] = part[kept[slots] - first]

    def misses(self) -> tuple[int, int]:
        return self._lookups, self._misses

    def dram_bytes(self) -> int:
        metadata = sys.getsizeof(self._slot_of) + 64 * len(self._slot_of)
        return int(self._slots.nbytes) + metadata

    def close(self) -> None:
        os.close(self._descriptor)
        del self._slots
