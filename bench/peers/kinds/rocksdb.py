"""RocksDB through rocksdict: a block cache of its own, direct reads past the kernel's."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from bench.peers.dataset import Dataset
from bench.peers.kinds.lmdb_store import keys_of
from bench.peers.loads import Batch
from bench.peers.peer import OneTable, Peer, PeerFailedError, import_refusal

_FILE_ROWS = 1 << 18
_ALL_CACHED = 4 << 30


class RocksDb(Peer):
    """Rows by number, uncompressed and sorted, asked for all at once and each once a batch."""

    name = "RocksDB"
    has_budget = True

    def __init__(self, dataset: Dataset, budget: int | None) -> None:
        super().__init__(dataset, budget)
        self._one_table = OneTable(dataset)
        self._path = dataset.directory / "rows.rocksdb"
        self._database: Any = None

    @classmethod
    def refusal(cls) -> str | None:
        return import_refusal("rocksdict")

    def _options(self) -> Any:
        from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

        self._cache = Cache(self.budget or _ALL_CACHED)
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_block_size(4096)
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(DBCompressionType.none())
        options.set_use_direct_reads(True)
        return options

    def _open(self) -> Any:
        from rocksdict import Rdict

        options = self._options()
        # Without a column family's options those of the file would hold, with a cache of 8 MiB.
        return Rdict(str(self._path), options, column_families={"default": options})

    def prepare(self) -> None:
        if self._path.exists():
            return
        from rocksdict import SstFileWriter

        files: list[str] = []
        writer: Any = None
        first = 0
        for chunk in self.dataset.chunks():
            if writer is None or writer.file_size() > _FILE_ROWS * self.dataset.row_bytes:
                if writer is not None:
                    writer.finish()
                files.append(str(self.dataset.directory / f"rows{len(files)}.sst"))
                writer = SstFileWriter(options=self._options())
                writer.open(files[-1])
            for key, value in zip(
                keys_of(np.arange(first, first + len(chunk))), map(bytes, chunk), strict=True
            ):
                writer[key] = value
            first += len(chunk)
        writer.finish()
        database = self._open()
        database.ingest_external_file(files)
        database.close()
        for file in files:
            os.unlink(file)

    def load(self) -> None:
        from rocksdict import ReadOptions

        self._database = self._open()
        capacity = self._database.property_int_value("rocksdb.block-cache-capacity")
        if self.budget is not None and capacity != self.budget:
            raise PeerFailedError(f"RocksDB took {capacity} bytes of cache for {self.budget}")
        reading = ReadOptions()
        reading.set_async_io(True)
        reading.set_verify_checksums(False)
        self._database.set_read_options(reading)

    def embedding_bag(self, batch: Batch) -> Any:
        rows, positions = np.unique(self._one_table.rows_of(batch), return_inverse=True)
        joined = b"".join(self._database[keys_of(rows)])
        values = np.frombuffer(joined, dtype=np.float32).reshape(len(rows), self.dataset.dim)
        return self._one_table.pool(values[positions], batch.offsets)

    def dram_bytes(self) -> int:
        readers = self._database.property_int_value("rocksdb.estimate-table-readers-mem") or 0
        return int(self._cache.get_usage() + readers)

    def close(self) -> None:
        self._database.close()
