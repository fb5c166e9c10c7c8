"""Helpers of the tests of stores: temporary stores, a naive model of pooling, child processes."""

import itertools
import os
import struct
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import tieralloc as ta

POLICIES = ("lru", "lfu", "clock", "sieve", "s3fifo", "random")
DTYPES = ("float32", "float16", "bfloat16", "float64")


def bypasses_page_cache(folder):
    """Return whether files in `folder` can be opened with O_DIRECT."""
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        try:
            os.close(os.open(probe.name, os.O_RDONLY | os.O_DIRECT))
        except OSError:
            return False
    return True


@contextmanager
def real_folder():
    """Create a temporary folder, with O_DIRECT if a usual parent folder has it."""
    candidates = [tempfile.gettempdir(), "/var/tmp", os.getcwd()]
    parents = [folder for folder in candidates if os.access(folder, os.W_OK)]
    parent = next(filter(bypasses_page_cache, parents), parents[0])
    with tempfile.TemporaryDirectory(prefix="tieralloc-test-", dir=parent) as path:
        yield Path(path)


FILE_OPTIONS = {
    *("engine", "queue_depth", "direct", "reserve", "prefetch_threads", "warm_restart_interval")
}


def store_of(path, mode="w", **options):
    """A store of a file, whose options may be among the others; it starts cold."""
    options = {"warm_restart_interval": None, **options}
    file = {name: options.pop(name) for name in FILE_OPTIONS & options.keys()}
    return ta.TieredStore(slow=ta.File(path, mode=mode, **file), **options)


class StoreMaker:
    """Makes and opens stores in a folder and closes them in the end. Options as for `store_of`."""

    def __init__(self, folder):
        self.folder = folder
        self._number = itertools.count()
        self._stores = []

    def __call__(self, path=None, **options):
        if not {"fast_rows", "fast_bytes"} & options.keys():
            options["fast_rows"] = 8
        return self._keep(store_of(path or self.new_path(), **options))

    def open(self, path, mode="r+", **options):
        if not {"fast_rows", "fast_bytes"} & options.keys():
            options["fast_rows"] = 8
        return self._keep(store_of(path, mode, **options))

    def new_path(self):
        return self.folder / f"{next(self._number)}.tier"

    def _keep(self, store):
        self._stores.append(store)
        return store

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for store in self._stores:
            store.close()


@contextmanager
def new_store(**options):
    """Create a store for one example of hypothesis, because examples share fixtures.

    It is in memory if possible: hundreds of examples would wait for a disk.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tieralloc-test-", dir=memory) as folder:
        store = store_of(Path(folder) / "new.tier", **options)
        with store:
            yield store


def path_of(store):
    return store.stats().slow_tier.path


def numbered_rows(rows, dim, dtype="float32", first=0):
    """Return distinct rows: row r is r, r + 1/4, r + 1/2, r + 3/4, r, …"""
    values = np.arange(first, first + rows)[:, None] + np.arange(dim)[None, :] % 4 / 4
    return stored(values, dtype)


def stored(values, dtype):
    """Return values as a table of `dtype` stores them; bfloat16 as uint16 bits."""
    if dtype != "bfloat16":
        return np.asarray(values).astype(dtype)
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(array, dtype):
    """Return rows of a table of `dtype` as float64 for float64, otherwise as float32."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64 if dtype == "float64" else np.float32)


def pooled(rows, bags, mode, weights=None, padding_idx=None):
    """Return the result of torch.nn.functional.embedding_bag, pooled row by row in order.

    `rows` are all rows of a table, float32 or float64; `bags` are lists of indices; `weights`
    are lists with one weight per index.
    """
    result = np.zeros((len(bags), rows.shape[1]), rows.dtype)
    for b, bag in enumerate(bags):
        kept = [i for i, row in enumerate(bag) if row != padding_idx]
        for nth, i in enumerate(kept):
            row = rows[bag[i]]
            if weights is not None:
                row = rows.dtype.type(weights[b][i]) * row
            if mode == "max":
                result[b] = row if nth == 0 else np.maximum(result[b], row)
            else:
                result[b] += row
        if mode == "mean" and kept:
            result[b] /= rows.dtype.type(len(kept))
    return result


def ends_of(bags):
    """Return the offsets of bags, including the end of the last one."""
    return np.cumsum([0, *map(len, bags)])


def flat(bags):
    return np.array([row for bag in bags for row in bag], dtype=np.int64)


def run_python(code, *arguments, flags=(), before=(), **options):
    """Run code in a new interpreter with this tieralloc; return the completed process."""
    root = str(Path(ta.__file__).parent.parent)
    return subprocess.run(
        [*before, sys.executable, *flags, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


_HEADER_V1 = struct.Struct("<8sIIQQ")
_RECORD = struct.Struct("<192sQQIII36x")
MIB = 1 << 20


def _superblock_v1(*table):
    fields = (b"TIERALOC", 1, 1, 9)
    record = _RECORD.pack(*table)
    checksum = 0xCBF29CE484222325
    for byte in _HEADER_V1.pack(*fields, 0) + record:
        checksum = (checksum ^ byte) * 0x100000001B3 % (1 << 64)
    return _HEADER_V1.pack(*fields, checksum) + record


def file_of_version_1(path):
    """Write a file of format version 1: rows side by side, without checksums."""
    rows = np.zeros((1000, 16), np.float32)
    rows[:, :4] = numbered_rows(1000, 4)
    with open(path, "wb") as file:
        for at in (0, MIB):
            file.seek(at)
            file.write(_superblock_v1(b"item", 1000, 2 * MIB, 4, 1, 64))
        file.seek(2 * MIB)
        file.write(rows.tobytes().ljust(16 * 4096, b"\0"))
