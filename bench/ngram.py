"""N-gram embeddings of a language model: rows of a table on disk, looked up cold and warm.

`python -m bench.ngram` writes rows of 320 bytes. A token looks up 48 of them: a decode step has 1
to 32 tokens, a prefill 2,048. Stores under the same DRAM take turns: tieralloc, which reads the
rows in place; numpy.memmap; and a pool of threads with a read per row. Beside them: random reads of
4 KiB by fio, and a gather of rows that are all in an array. Then tieralloc opens a sparse file of
the full size.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

import tieralloc as ta
from bench.scenery import arguments, fio
from bench.scenery.about import about
from bench.scenery.cgroups import CgroupRefusedError, MemoryCgroup
from bench.scenery.processes import Child
from bench.scenery.results import write_json
from bench.scenery.tables import markdown, number
from bench.scenery.turns import Spread, alternate, ratios
from tieralloc._common.progress import bar
from tieralloc.tools.replay.baselines import drop_page_cache

ROW_BYTES = 320
ROWS_PER_TOKEN = 48
QUEUE_DEPTH = 256
FULL_ROWS = 384_000_000
_NAME = "ngram"
_BLOCK = 4096
_THREADS = 32
_WRITE_ROWS = 1 << 17
_COLD_ROWS = 10_000  # a turn of cold calls; a map and a read per row take 100 us for each
#: Memory of a child beside its cache: buffers of results, its modules.
_WORKING_BYTES = 128 << 20


class Settings(NamedTuple):
    """Sizes of the study."""

    rows: int = 26_000_000  # 8 GB
    fast_bytes: int = 256 << 20
    resident_rows: int = 20_000
    turns: int = 5
    seconds: float = 1.0
    prefill_tokens: int = 2048


FULL = Settings()
QUICK = Settings(100_000, 8 << 20, 1000, 2, 0.05, 32)


class Store:
    """Rows of a file, by their numbers."""

    name: str
    needs_cgroup = False  # its cache is the page cache

    def __init__(self, path: Path, settings: Settings) -> None:
        self.settings = settings
        self.open(path)
        self._outs: dict[int, NDArray[np.uint8]] = {}

    def open(self, path: Path) -> None:
        """Open the file."""

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy rows."""

    def measure(self, calls: Sequence[NDArray[np.int64]]) -> list[float]:
        """Return the seconds of each call; check the numbers of the rows that came."""
        times = []
        for rows in calls:
            out = self._outs.setdefault(len(rows), np.empty((len(rows), ROW_BYTES), np.uint8))
            began = time.perf_counter()
            self.take(rows, out)
            times.append(time.perf_counter() - began)
        if not (out[:, :8].copy().view(np.int64)[:, 0] == rows).all():
            raise ValueError(f"{self.name}: other rows came")
        return times

    def close(self) -> None:
        """Close the file."""


class Tieralloc(Store):
    """Rows read in place."""

    name = "tieralloc"

    def table_rows(self) -> int:
        return self.settings.rows

    def open(self, path: Path) -> None:
        count = self.table_rows()
        rows = ta.RawRows(path, num_embeddings=count, row_bytes=ROW_BYTES, dtype="bytes")
        slow = ta.Checkpoint(tables={"ngram": rows}, queue_depth=QUEUE_DEPTH)
        self._store = ta.TieredStore(slow=slow, fast_bytes=self.settings.fast_bytes)
        self._table = self._store.table("ngram")

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        self._table.lookup(rows, out)

    def close(self) -> None:
        self._store.close()


class TierallocOfFewRows(Tieralloc):
    """The first rows of the file: so few that the index of the fast tier is an array."""

    name = "tieralloc, few rows"

    def table_rows(self) -> int:
        return 10 * self.settings.resident_rows


class Memmap(Store):
    """A map of the file; the page cache is limited."""

    name = "numpy.memmap"
    needs_cgroup = True

    def open(self, path: Path) -> None:
        self._map = np.memmap(path, np.uint8, "r", shape=(self.settings.rows, ROW_BYTES))
        self._map._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined] # else 128 KiB a fault

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        np.take(self._map, rows, axis=0, out=out, mode="clip")


class PreadPool(Store):
    """Threads that read a row at a time through the page cache, which is limited."""

    name = "pread per row"
    needs_cgroup = True

    def open(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
        self._pool = ThreadPoolExecutor(_THREADS)

    def _read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        for row, place in zip(rows.tolist(), out, strict=True):
            os.preadv(self._file, [place], row * ROW_BYTES)

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        parts = min(_THREADS, len(rows))
        list(self._pool.map(self._read, np.array_split(rows, parts), np.array_split(out, parts)))

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._file)


class Gather(Store):
    """Rows of an array in DRAM, as many as are resident in the stores."""

    name = "array in DRAM"

    def open(self, path: Path) -> None:
        self._array = np.fromfile(path, np.uint8, self.settings.resident_rows * ROW_BYTES)
        self._array = self._array.reshape(-1, ROW_BYTES)

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        np.take(self._array, rows, axis=0, out=out, mode="clip")


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser(_NAME, __doc__, models=False, disk=True)
    options = parser.parse_args(given)
    if options.show:
        show(arguments.read_result(options, _NAME))
        return 0
    settings = QUICK if options.quick else FULL
    head = about(arguments.public_command(_NAME, given), options.dir)
    with tempfile.TemporaryDirectory(prefix="tieralloc-ngram-", dir=options.dir) as name:
        path = Path(name) / "rows"
        write_rows(path, settings.rows)
        refused: dict[str, str] = {}
        records = list(measure(path, settings, refused))
        full = open_full(Path(name) / "sparse", settings)
    result = {**head, "settings": settings._asdict(), "records": records, "full": full}
    result["refused"] = refused
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / f"{_NAME}.json", result)
    show(result)
    return 0


def show(result: Any) -> None:
    head = list(dict.fromkeys(key for record in result["records"] for key in record))
    rows = [[_cell(record.get(key)) for key in head] for record in result["records"]]
    print(f"\n{markdown([key.replace('_', ' ') for key in head], rows)}\n")
    for name, value in result["full"].items():
        print(f"{name.replace('_', ' ')}: {number(value)}")
    for name, reason in result["refused"].items():
        print(f"left out: {name}: {reason}")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


def write_rows(path: Path, count: int) -> None:
    """Write rows that begin with their number."""
    rows = np.random.default_rng(0).integers(0, 256, (_WRITE_ROWS, ROW_BYTES), dtype=np.uint8)
    with open(path, "wb") as file, bar("write", count, "rows") as report:
        for first in range(0, count, _WRITE_ROWS):
            part = rows[: count - first]
            part[:, :8] = np.arange(first, first + len(part))[:, None].view(np.uint8)
            part.tofile(file)
            report(len(part))
        file.flush()
        os.fsync(file.fileno())
    drop_page_cache(path)


def measure(path: Path, settings: Settings, refused: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a record for each size of calls, cold and warm; `refused` has what is left out."""
    fresh = Fresh(settings)
    if reason := fio.refusal():
        refused["fio"] = reason
    with ExitStack() as stack:
        stores: dict[str, Child] = {}
        for kind in KINDS:
            try:
                stores[kind.name] = stack.enter_context(_child(kind, path, settings))
            except CgroupRefusedError as error:
                refused[kind.name] = str(error)
        for tokens in (0, 1, 4, 32, settings.prefill_tokens):
            rows = tokens * ROWS_PER_TOKEN or 1
            measures: dict[str, Callable[[int], float]] = {
                name: partial(_cold, store, fresh, rows) for name, store in stores.items()
            }
            if "fio" not in refused:
                measures["fio"] = partial(_fio, path, rows, settings.seconds)
            case = f"cold, {tokens} tokens" if tokens else "cold, 1 row"
            yield _record(case, rows, settings, measures)
        for kind in (TierallocOfFewRows, Gather):
            stores[kind.name] = stack.enter_context(_child(kind, path, settings))
        for tokens in (1, 32):
            rows = tokens * ROWS_PER_TOKEN
            measures = {
                name: partial(_warm, store, settings, rows) for name, store in stores.items()
            }
            yield _record(f"warm, {tokens} tokens", rows, settings, measures)


@contextmanager
def _child(kind: type[Store], path: Path, settings: Settings) -> Iterator[Child]:
    """Open a store in a child, whose memory and page cache a cgroup limits if need be."""
    with ExitStack() as stack:
        group = None
        if kind.needs_cgroup:
            group = MemoryCgroup(settings.fast_bytes + _WORKING_BYTES)
            stack.callback(group.close)
        child = Child(kind.name, _Late, (kind, path, settings))
        stack.callback(child.close)
        if group is not None:
            group.set("cgroup.procs", child.pid)
        child.call("begin")
        yield child


class _Late:
    """A store that is opened once its process is limited."""

    def __init__(self, kind: type[Store], path: Path, settings: Settings) -> None:
        self._make = lambda: kind(path, settings)

    def begin(self) -> None:
        self._store = self._make()

    def measure(self, calls: Sequence[NDArray[np.int64]]) -> list[float]:
        return self._store.measure(calls)

    def close(self) -> None:
        self._store.close()


KINDS: tuple[type[Store], ...] = (Tieralloc, Memmap, PreadPool)


class Fresh:
    """Rows that no call had before, no two in one block."""

    def __init__(self, settings: Settings) -> None:
        self._step = -(-_BLOCK // ROW_BYTES) + 1
        places = (settings.rows - settings.resident_rows) // self._step
        self._order = np.random.default_rng(1).permutation(places)
        self._first = settings.resident_rows
        self._at = 0

    def take(self, count: int) -> NDArray[np.int64]:
        if self._at + count > len(self._order):
            self._at = 0
        places = self._order[self._at : self._at + count]
        self._at += count
        return np.asarray(self._first + places * self._step)


def _cold(store: Child, fresh: Fresh, rows: int, _: int) -> float:
    """Return the median seconds of calls of fresh rows."""
    count = max(1, min(100, _COLD_ROWS // rows))
    calls = [fresh.take(rows) for _ in range(count)]
    return float(np.median(store.call("measure", calls)))


def _warm(store: Child, settings: Settings, rows: int, turn: int) -> float:
    """Return the median seconds of calls of resident rows."""
    random = np.random.default_rng(turn)
    every = [np.arange(settings.resident_rows)] * 3  # s3fifo keeps rows that were used again
    calls = random.integers(0, settings.resident_rows, (2000, rows))
    return float(np.median(store.call("measure", [*every, *calls])[len(every) :]))


def _fio(path: Path, rows: int, seconds: float, _: int) -> float:
    """Return the seconds of as many reads as a call has rows."""
    return rows / fio.reads_per_second(path, min(QUEUE_DEPTH, rows), seconds)


def _record(
    what: str, rows: int, settings: Settings, measures: dict[str, Callable[[int], float]]
) -> dict[str, Any]:
    """Return the µs of a call per store, and the ratios of the others to tieralloc."""
    seconds = alternate(what, settings.turns, measures)
    record: dict[str, Any] = {"case": what, "rows": rows}
    for name, values in seconds.items():
        record[f"{name}, us"] = 1e6 * Spread.of(values).median
    for name, values in seconds.items():
        if name != Tieralloc.name:
            record[f"{name} ÷ tieralloc"] = ratios(values, seconds[Tieralloc.name]).median
    return record


def open_full(path: Path, settings: Settings) -> dict[str, float]:
    """Open a sparse file of the full size, and look up rows; return time and memory."""
    with open(path, "wb") as file:
        file.truncate(FULL_ROWS * ROW_BYTES)
    child = Child("full size", _Full, (path, settings._replace(rows=FULL_ROWS)))
    try:
        return dict(child.call("measure"))
    finally:
        child.close()


class _Full:
    """Opens a table of the full size in its process."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, settings

    def measure(self) -> dict[str, float]:
        out = np.ones((1000, ROW_BYTES), np.uint8)
        calls = np.random.default_rng(0).integers(0, FULL_ROWS, (1000, 1000))
        before = psutil.Process().memory_info().rss
        began = time.perf_counter()
        store = Tieralloc(self._path, self._settings)
        seconds = time.perf_counter() - began
        for rows in calls:
            store.take(rows, out)
        grown = psutil.Process().memory_info().rss - before
        stated = store._store.stats().dram.total_bytes
        store.close()
        return {
            "full_size_rows": FULL_ROWS,
            "seconds_to_open": seconds,
            "rss_mib": grown / 2**20,
            "stated_dram_mib": stated / 2**20,
        }

    def close(self) -> None:
        """Do nothing: the store is closed."""


if __name__ == "__main__":
    sys.exit(main())
