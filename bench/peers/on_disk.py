"""Baselines that serve from a disk through a cache of limited size."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.peers.adapter import BaselineFailedError, OneTable
from tieralloc.tools.replay import baselines
from tieralloc.tools.replay.baselines import drop_page_cache

_BLOCK = 4096


class Memmap(OneTable):
    """numpy.memmap: the page cache is the fast tier."""

    name = "numpy.memmap"
    needs_cgroup = True

    def prepare(self) -> None:
        drop_page_cache(self.dataset.path)

    def open(self) -> None:
        self._file = baselines.Memmap(self.dataset.path, self.dataset.source, 1)

    def take(self, rows: Any) -> Any:
        return self._file.take(rows)

    def dram_bytes(self) -> int:
        return int(psutil.Process().memory_info().shared)  # pages of files

    def close(self) -> None:
        self._file.close()


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
        row_bytes = self.dataset.row_bytes
        capacity = max(1, (self.budget or self.dataset.rows * row_bytes) // row_bytes)
        max_bytes = capacity * (row_bytes + baselines.ENTRY_BYTES)
        self._cache = baselines.PythonLru(self.dataset.path, self.dataset.source, max_bytes)

    def take(self, rows: Any) -> Any:
        return self._cache.take(rows)

    def warm(self, seconds: float) -> None:
        """Fill the cache with the rows that serving would leave, without the minutes of serving."""
        self._cache.warm(np.concatenate([self.dataset.rows_of(b) for b in self.workload.warm]))

    def misses(self) -> tuple[int, int]:
        return self._cache.lookups, self._cache.misses

    def dram_bytes(self) -> int:
        return self._cache.dram_bytes

    def close(self) -> None:
        self._cache.close()
