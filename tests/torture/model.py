"""Rows that describe themselves, random calls, and the rows that a crash may leave.

Version v of row r of table t has one valid value, so a mixture of two versions is no version at
all. Version 0 is the row of a new table: zeros. Call number n writes version n + 1. Calls are made
one after the other, so that versions of a row ascend. The store's own version is a table of one row
here, which deltas write: call number n leads to version n + 1.
"""

import mmap
import time
from dataclasses import dataclass, field

import numpy as np

import tieralloc as ta
from tieralloc._bindings import rows_per_page
from tieralloc.order import Order, TableOrder

DIMS = (16, 80, 333, 768, 1100, 2500)  # rows within a page, across pages, larger than a page
MIXTURE, UNREADABLE = -1, -2  # in the place of a version
STORE_VERSION = "version of the store"
NO_ROWS = np.zeros(0, dtype=np.int64)
SCRATCH = "scratch"  # a table that comes and goes, whose rows no call judges


def make_rows(table, rows, versions, dim):
    """Return the values of versions of rows: word 0 is the version, the others a hash."""
    rows = np.asarray(rows, dtype=np.uint64)
    versions = np.broadcast_to(np.asarray(versions, dtype=np.uint64), rows.shape)
    key = (rows << np.uint64(32)) + (versions << np.uint64(8)) + np.uint64(table)
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (key >> np.uint64(24)).astype(np.uint32)[:, None] + (
        np.arange(dim, dtype=np.uint32) * np.uint32(0x9E3779B1)
    )
    words ^= words >> np.uint32(15)
    words[:, 0] = versions
    words &= np.uint32(0x7FFFFF)
    words |= np.uint32(0x3F800000)  # from 1 to 2: no NaN, no denormal number
    words[versions == 0] = 0
    return words.view(np.float32)


def versions_of(table, rows, values):
    """Return the version of each row, MIXTURE where the value is that of no version."""
    words = np.ascontiguousarray(values).view(np.uint32)
    versions = (words[:, 0] & np.uint32(0x7FFFFF)).astype(np.int64)
    expected = make_rows(table, rows, versions, values.shape[1]).view(np.uint32)
    return np.where((words == expected).all(axis=1), versions, MIXTURE)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a workload. `rows` are ascending and distinct; `size` is (rows, dim) of a table."""

    number: int
    # create, load, update, delta, lookup, flush, reopen, pause, resize, scratch, grow
    kind: str
    table: int = -1
    rows: np.ndarray = field(default_factory=lambda: NO_ROWS)
    size: tuple[int, int] = (0, 0)
    parts: tuple["Call", ...] = ()  # of a delta: updates of tables

    @property
    def version(self):
        return self.number + 1

    @property
    def name(self):
        return STORE_VERSION if self.table < 0 else table_name(self.table)

    @property
    def grown_rows(self):
        """The rows of the table after a call of kind "grow", at least."""
        return self.size[0] + self.number % 200

    def writes(self):
        """Return the tables and rows that the call writes, as calls."""
        if self.kind == "delta":
            return (*self.parts, Call(self.number, "delta", -1, np.zeros(1, dtype=np.int64)))
        return (self,) if self.kind in ("load", "update") else ()

    def values(self):
        return make_rows(self.table, self.rows, self.version, self.size[1])


def table_name(table):
    return f"table {table}"


WEIGHTS = {
    "create": 0.05, "load": 0.1, "update": 0.37, "grow": 0.02, "delta": 0.1,
    "lookup": 0.08, "flush": 0.16, "reopen": 0.03, "pause": 0.04, "resize": 0.02, "scratch": 0.03,
}  # fmt: skip


def random_calls(rng, count, weights=WEIGHTS, *, max_tables=5, max_rows=400):
    """Return calls that depend on nothing but the generator."""
    calls, sizes = [], []
    kinds = rng.choice(list(weights), count, p=list(weights.values()))
    for number, kind in enumerate(kinds):
        if not sizes or (kind == "create" and len(sizes) < max_tables):
            sizes.append((int(rng.integers(1, max_rows + 1)), int(rng.choice(DIMS))))
            calls.append(Call(number, "create", len(sizes) - 1, size=sizes[-1]))
            continue
        if kind == "delta":
            parts = tuple(
                Call(number, "delta", table, _some_rows(rng, size[0]), size)
                for table, size in enumerate(sizes)
                if rng.random() < 0.7
            )
            calls.append(Call(number, "delta", parts=parts))
            continue
        table = int(rng.integers(len(sizes)))
        num_rows = sizes[table][0]
        rows = NO_ROWS
        if kind == "load":
            start = int(rng.integers(num_rows)) if rng.random() < 0.3 else 0
            rows = np.arange(start, num_rows)
        elif kind in ("create", "update", "lookup"):
            kind = "update" if kind == "create" else kind
            rows = _some_rows(rng, num_rows)
        calls.append(Call(number, str(kind), table, rows, sizes[table]))
    return calls


def _some_rows(rng, num_rows):
    rows = np.sort(rng.choice(num_rows, int(rng.integers(1, num_rows + 1)), replace=False))
    return rows[:3] if rng.random() < 0.5 else rows


class Progress:
    """Clock readings of the start and the end of each call, -1 before; shared with children."""

    def __init__(self, count):
        memory = np.frombuffer(mmap.mmap(-1, 16 * count), dtype=np.int64)
        memory[:] = -1
        self.started, self.done = memory.reshape(2, count)


def open_store(path, rng, mode="a"):
    if rng.random() < 0.3:  # tables that lie in DRAM as a whole
        return ta.TieredStore(path, mode=mode, fast_bytes="64MiB")
    return ta.TieredStore(path, mode=mode, fast_rows=int(rng.integers(16, 400)))


def _order_of(call):
    """Return an order of the table's rows; None for every second table."""
    if call.number % 2:
        return None
    rows, dim = call.size
    rng = np.random.default_rng(call.number)
    arranged = rng.permutation(rows)[: int(rng.integers(rows + 1))].astype(np.uint64)
    capacity = rows_per_page(dim, "float32")
    pages, rest = divmod(len(arranged), capacity)
    lengths = np.array([capacity] * pages + [rest] * (rest > 0), dtype=np.uint32)
    return Order({call.name: TableOrder(rows, capacity, arranged, lengths)})


def make_call(store, call):
    if call.kind == "create":
        store.create_table(call.name, *call.size, order=_order_of(call))
    elif call.kind == "load":
        cut, values = len(call.rows) // 2, call.values()
        store.table(call.name).load([values[:cut], values[cut:]], start=int(call.rows[0]))
    elif call.kind == "update":
        store.table(call.name).update(call.rows, call.values())
    elif call.kind == "delta":
        parts = [
            (part.name, part.rows, part.values())
            for part in call.parts
            if part.name in store.tables
        ]
        store.apply(ta.Delta(call.version, store.version, parts))
    elif call.kind == "lookup":
        store.table(call.name).lookup(call.rows)
    elif call.kind == "flush":
        store.flush()
    elif call.kind == "pause":
        time.sleep(0.005)
    elif call.kind == "resize":
        fast = {"fast_bytes": "64MiB"} if call.number % 2 else {"fast_rows": 16 + call.number % 300}
        store.resize(**fast)
    elif call.kind == "scratch":
        _change_scratch(store, call)
    elif call.kind == "grow" and call.name in store.tables:
        table = store.table(call.name)
        table.resize(max(len(table), call.grown_rows))


def _change_scratch(store, call):
    """Drop the table, or make it, with rows: later tables lie in the gaps that it leaves."""
    if SCRATCH in store.tables:
        store.drop_table(SCRATCH)
        return
    rows, dim = 1 + call.number % 200, DIMS[call.number % len(DIMS)]
    table = store.create_table(SCRATCH, rows, dim)
    table.load(make_rows(len(DIMS), np.arange(rows), call.version, dim))
    table.update([0], make_rows(len(DIMS), [0], call.version + 1, dim))


def make_calls(path, calls, progress, clock=lambda: 0, seed=0):
    """Make the calls one after the other; calls to missing tables are omitted."""
    rng = np.random.default_rng(seed)
    store = open_store(path, rng)
    for call in calls:
        known = call.name in store.tables
        if known if call.kind == "create" else not known and len(call.rows):
            continue
        progress.started[call.number] = clock()
        if call.kind == "reopen":
            store.close()
            store = open_store(path, rng)
        else:
            make_call(store, call)
        progress.done[call.number] = clock()
    store.close()


def read_store(path, mode="a"):
    """Open the store; return what `read_tables` returns."""
    with ta.TieredStore(path, mode=mode, fast_rows=64) as store:
        return read_tables(store)


def read_tables(store):
    """Return the version of every row, by table, and the errors of reads."""
    versions, errors = {STORE_VERSION: np.array([store.version])}, []
    for name, table in store.tables.items():
        if name == SCRATCH:
            continue
        number, rows = int(name.split()[-1]), np.arange(len(table))
        try:
            versions[name] = versions_of(number, rows, table.lookup(rows))
        except OSError as error:
            errors.append(f"{name}: {error}")
            versions[name] = np.array([_version_of_row(table, number, row) for row in rows])
    return versions, errors


def _version_of_row(table, number, row):
    try:
        return versions_of(number, [row], table.lookup([row]))[0]
    except OSError:
        return UNREADABLE


def judge(calls, started, promised, found, floor=None):
    """Yield (kind, text) for each table whose rows break a promise.

    Parameters
    ----------
    calls : list of Call
        Calls since `floor`, in order.
    started, promised : bool arrays by call number
        Calls that may have had an effect, and calls whose effect must be there.
    found : dict
        Versions of all rows by table, as `read_store` returns them.
    floor : dict, optional
        Versions before the calls.
    """
    least = {name: versions.copy() for name, versions in (floor or {}).items()}
    if STORE_VERSION in found:
        least.setdefault(STORE_VERSION, np.zeros(1, dtype=np.int64))
    writes = {}
    for call in calls:
        if not started[call.number]:
            continue
        if call.kind == "create":
            if promised[call.number] and call.name not in found:
                yield "table lost", f"{call.name} of call {call.number}"
            least.setdefault(call.name, np.zeros(call.size[0], dtype=np.int64))
        if call.kind == "grow" and promised[call.number] and call.name in least:
            least[call.name] = _with_zeros(least[call.name], call.grown_rows)
        for write in call.writes():
            if write.name not in least:
                continue
            writes.setdefault(write.name, []).append(write)
            if promised[call.number]:
                least[write.name][write.rows] = call.version
        if call.kind == "delta" and not promised[call.number]:
            yield from _judge_delta(call, found)
    for name in sorted(least.keys() & found.keys()):
        rows = len(found[name])
        if rows < len(least[name]):
            yield "rows lost", f"{name}: {rows} rows, promised {len(least[name])}"
            continue
        at_least = _with_zeros(least[name], rows)
        yield from _judge_rows(name, writes.get(name, []), promised, at_least, found[name])
    for name in (floor or {}).keys() - found.keys():
        yield "table lost", name
    for name in found.keys() - least.keys():
        yield "wrong table", f"{name}: no call made it"


def _with_zeros(versions, rows):
    """Return the versions of a table that has at least so many rows."""
    return np.concatenate([versions, np.zeros(max(0, rows - len(versions)), dtype=np.int64)])


def _judge_delta(call, found):
    """Yield whether some rows of a delta, of any tables, are there and some are not."""
    present = [found[part.name][part.rows] for part in call.writes() if part.name in found]
    versions = np.concatenate(present)
    new = (versions == call.version).sum()
    old = ((versions >= 0) & (versions < call.version)).sum()
    if new and old:
        yield "delta not atomic", f"call {call.number}: {new} rows new, {old} old"


def _judge_rows(name, writes, promised, least, versions):
    allowed = versions == least
    lost = (versions >= 0) & (versions < least)
    loading = np.zeros(len(versions), dtype=bool)  # by a load that is not promised
    loaded = np.zeros(len(versions), dtype=bool)  # by a load that is promised
    atomic = True
    for call in writes:
        present = versions[call.rows]
        allowed[call.rows] |= (present == call.version) & (least[call.rows] < call.version)
        if call.kind == "load":
            loading[call.rows] |= not promised[call.number]
            loaded[call.rows] |= least[call.rows] == call.version
        elif call.kind == "update" and not promised[call.number] and atomic:
            new = (present == call.version).sum()
            old = ((present >= 0) & (present < call.version)).sum()
            if new and old:
                atomic = False
                yield "update not atomic", f"{name}: call {call.number}: {new} rows new, {old} old"
    for kind, rows in {
        "row torn": versions == MIXTURE,
        "row unreadable": (versions == UNREADABLE) & ~loading,
        "row unreadable after a load": (versions == UNREADABLE) & loading,
        "row lost": ~allowed & lost & ~loaded,
        "row lost after a load": ~allowed & lost & loaded,
        "row of no call": ~allowed & (versions > least),
    }.items():
        if rows.any():
            first = int(np.flatnonzero(rows)[0])
            yield (
                kind,
                f"{name}: {rows.sum()} of {len(rows)} rows, first {first}: version "
                f"{versions[first]}, promised {least[first]}",
            )
