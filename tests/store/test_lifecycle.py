"""A store's beginning and end, and the bad days between: files, locks, disks, forks."""

import errno
import gc
import os
import signal
import struct
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import POLICIES, StoreMaker, numbered_rows, path_of, real_folder, run_python

import tieralloc as ta

MIB = 1 << 20

CALLS = {
    "lookup": lambda store, table: table.lookup([0]),
    "embedding_bag": lambda store, table: table.embedding_bag([0], [0]),
    "batched embedding_bag": lambda store, table: store.embedding_bag([0], [0, 1]),
    "update": lambda store, table: table.update([0], np.ones((1, 4), np.float32)),
    "load": lambda store, table: table.load(np.ones((10, 4), np.float32)),
    "load of nothing": lambda store, table: table.load([], start=0),
    "prefetch": lambda store, table: table.prefetch([0]),
    "batched prefetch": lambda store, table: store.prefetch([0], [0, 1]),
    "pin": lambda store, table: table.pin([0]),
    "unpin": lambda store, table: table.unpin([0]),
    "create_table": lambda store, table: store.create_table("more", 1, 1),
    "flush": lambda store, table: store.flush(),
    "stats": lambda store, table: store.stats(),
    "reset_stats": lambda store, table: store.reset_stats(),
    "with": lambda store, table: store.__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("served", [False, True], ids=["never served", "served"])
def test_use_after_close_is_a_value_error(make_store, call, served):
    store = make_store()
    table = store.create_table("item", 10, 4)
    if served:
        table.update([1], np.ones((1, 4), np.float32))
    store.close()
    with pytest.raises(ValueError, match=r"the store is closed; open it again"):
        call(store, table)
    store.close()
    assert store.closed
    assert "closed" in repr(store)


# Files opened


@pytest.fixture
def closed(make_store):
    """The path of a closed store, with a table `item` of 1000 x 4."""
    store = make_store()
    store.create_table("item", 1000, 4).load(numbered_rows(1000, 4))
    path = path_of(store)
    store.close()
    return path


@contextmanager
def unchanged(path):
    with open(path, "rb") as file:
        before = file.read()
    yield
    with open(path, "rb") as file:
        assert file.read() == before


@pytest.mark.parametrize("policy", POLICIES)
def test_tables_and_values_are_there_again(make_store, policy):
    store = make_store(policy=policy)
    path = path_of(store)
    shapes = [("a", 100, 4, "float32"), ("b", 3, 100, "float16"), ("c", 50, 1, "bfloat16")]
    rows = {}
    for name, *shape in shapes:
        table = store.create_table(name, *shape)
        rows[name] = numbered_rows(*shape)
        table.load(rows[name])
        table.update([1, 2, 1], rows[name][[3 % len(rows[name]), 0, 2]])
        rows[name][[1, 2]] = rows[name][[2, 0]]
    store.close()
    again = make_store.open(path, policy=policy)
    assert [
        (t.name, t.num_embeddings, t.embedding_dim, t.dtype) for t in again.tables.values()
    ] == (shapes)
    for table in again.tables.values():
        assert table.lookup(np.arange(len(table))).tobytes() == rows[table.name].tobytes()
    again.create_table("d", 5, 4).load(numbered_rows(5, 4))
    again.close()
    assert list(make_store.open(path).tables) == ["a", "b", "c", "d"]


def test_a_file_is_of_one_store_at_a_time(make_store, closed):
    store = make_store.open(closed)
    says = f"[Errno 11] file is open in another store; close that one first: '{closed}'"
    with pytest.raises(BlockingIOError) as caught:
        make_store.open(closed)
    assert str(caught.value) == says
    other = run_python(
        """
        import sys
        import tieralloc as ta
        try:
            ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        except BlockingIOError as error:
            print(error)
        """,
        closed,
    )
    assert other.stdout == f"{says}\n"
    assert store.table("item").lookup([7])[0, 0] == 7
    store.close()
    assert make_store.open(closed).table("item").lookup([7])[0, 0] == 7


def test_the_lock_ends_with_a_process_that_is_killed(make_store, closed):
    killed = run_python(
        """
        import os, signal, sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        closed,
    )
    assert killed.returncode == -signal.SIGKILL
    assert make_store.open(closed).table("item").lookup([7])[0, 0] == 7


def test_a_read_only_file_is_refused(make_store, closed):
    os.chmod(closed, 0o444)
    with unchanged(closed), pytest.raises(PermissionError, match="file is read-only") as caught:
        make_store.open(closed)
    assert caught.value.filename == closed


def test_what_is_no_file_is_an_os_error(make_store, folder):
    with pytest.raises(FileNotFoundError, match="cannot open the slow tier: No such file"):
        make_store.open(folder / "none.tier")
    with pytest.raises(IsADirectoryError, match="cannot open the slow tier: Is a directory"):
        make_store.open(folder)
    with pytest.raises(FileNotFoundError, match="cannot create the slow tier: No such file"):
        make_store(folder / "none" / "new.tier")
    with pytest.raises(IsADirectoryError, match="cannot open the slow tier: Is a directory"):
        make_store(folder)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 4096, 3 * MIB])
@pytest.mark.parametrize("kind", ["zeros", "text"])
def test_a_file_that_is_not_ours_is_refused(make_store, folder, size, kind):
    path = folder / "other.tier"
    path.write_bytes(bytes(size) if kind == "zeros" else (b"All happy families " * size)[:size])
    with unchanged(path), pytest.raises(ValueError, match="not a tieralloc file, or its header is"):
        make_store.open(path)


@pytest.mark.parametrize("lost", [1, 4096, 60_000])
def test_a_truncated_file_is_refused(make_store, closed, lost):
    size = os.stat(closed).st_size
    store_end = 2 * MIB + 1000 * 64
    os.truncate(closed, min(size, store_end) - lost)
    with (
        unchanged(closed),
        pytest.raises(ValueError, match=r"truncated: \d+ bytes, but table 'item'"),
    ):
        make_store.open(closed)
    os.truncate(closed, size)
    assert make_store.open(closed).table("item").lookup([0])[0, 0] == 0


# Headers damaged

HEADER = struct.Struct("<8sIIQQ")
RECORD = struct.Struct("<192sQQIII36x")
SUPERBLOCKS = (0, MIB)


def superblock(tables, version=1, generation=9):
    """A superblock as the format has it, of (name, rows, offset, dim, dtype, stride)."""

    def bytes_with(checksum):
        header = HEADER.pack(b"TIERALOC", version, len(tables), generation, checksum)
        return header + b"".join(RECORD.pack(*table) for table in tables)

    checksum = 0xCBF29CE484222325
    for byte in bytes_with(0):
        checksum = (checksum ^ byte) * 0x100000001B3 % (1 << 64)
    return bytes_with(checksum)


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_the_format_is_as_documented(closed):
    """Two superblocks, at 0 and at 1 MiB, and rows from 2 MiB on at a stride of cache lines."""
    with open(closed, "rb") as file:
        content = file.read()
    expected = superblock([(b"item", 1000, 2 * MIB, 4, 1, 64)], generation=2)
    for at in SUPERBLOCKS:
        assert content[at : at + len(expected)] == expected
    rows = np.frombuffer(content, np.float32, offset=2 * MIB).reshape(-1, 16)[:1000]
    np.testing.assert_array_equal(rows[:, :4], numbered_rows(1000, 4))
    assert not rows[:, 4:].any()


@settings(max_examples=50)
@given(
    which=st.sampled_from(SUPERBLOCKS),
    at=st.integers(0, HEADER.size + 2 * RECORD.size - 1),
    bit=st.integers(0, 7),
)
def test_a_bit_flipped_in_one_superblock_loses_nothing(which, at, bit):
    with real_folder() as folder, StoreMaker(folder) as make:
        store = make(reserve=False)
        for name in ("a", "b"):
            store.create_table(name, 10, 4).load(numbered_rows(10, 4))
        path = path_of(store)
        store.close()
        with open(path, "rb") as file:
            file.seek(which + at)
            flipped = file.read(1)[0] ^ (1 << bit)
        overwrite(path, which + at, bytes([flipped]))
        store = make.open(path, reserve=False)
        for name in ("a", "b"):
            table = store.table(name)
            np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))
        store.create_table("c", 10, 4)  # makes both whole again
        store.close()
        overwrite(path, MIB - which, b"damage" * 40)
        assert list(make.open(path).tables) == ["a", "b", "c"]


def test_a_file_with_both_superblocks_damaged_is_refused(make_store, closed):
    for at in SUPERBLOCKS:
        overwrite(closed, at + 40, b"damage")
    with unchanged(closed), pytest.raises(ValueError, match="its header is damaged"):
        make_store.open(closed)


def test_a_file_of_a_newer_version_is_refused(make_store, closed):
    for at in SUPERBLOCKS:
        overwrite(closed, at, superblock([], version=2))
    says = rf"{closed}: file format version 2, this tieralloc reads up to version 1; upgrade"
    with unchanged(closed), pytest.raises(ValueError, match=says):
        make_store.open(closed)


FORGED = {
    "no name": [(b"", 10, 2 * MIB, 4, 1, 64)],
    "no rows": [(b"a", 0, 2 * MIB, 4, 1, 64)],
    "rows without end": [(b"a", 1 << 60, 2 * MIB, 4, 1, 64)],
    "no dim": [(b"a", 10, 2 * MIB, 0, 1, 64)],
    "unknown dtype": [(b"a", 10, 2 * MIB, 4, 9, 64)],
    "no stride": [(b"a", 10, 2 * MIB, 4, 1, 0)],
    "another stride": [(b"a", 10, 2 * MIB, 4, 1, 128)],
    "rows in the header": [(b"a", 10, MIB, 4, 1, 64)],
    "rows beyond all files": [(b"a", 10, 1 << 63, 4, 1, 64)],
    "a name twice": [(b"a", 10, 2 * MIB, 4, 1, 64), (b"a", 10, 3 * MIB, 4, 1, 64)],
    "rows on others": [(b"a", 100, 2 * MIB, 4, 1, 64), (b"b", 10, 2 * MIB + 4096, 4, 1, 64)],
}


@pytest.mark.parametrize("tables", FORGED.values(), ids=FORGED)
def test_tables_that_no_store_makes_are_refused_though_the_checksum_is_right(
    make_store, closed, tables
):
    for at in SUPERBLOCKS:
        overwrite(closed, at, superblock(tables))
    with unchanged(closed), pytest.raises(ValueError, match="its header is damaged"):
        make_store.open(closed)


# Files cut short


@pytest.fixture
def cut(make_store):
    """A store whose file was cut in the middle of table `item`, and the first row that is lost."""
    store = make_store(fast_rows=4)
    table = store.create_table("item", 1000, 16)
    table.load(numbered_rows(1000, 16))
    store.create_table("behind", 10, 16)
    path = path_of(store)
    # The last 512 rows, of 64 bytes each, and the other table's only block.
    os.truncate(path, os.stat(path).st_size - 4096 - 512 * 64)
    first_lost = (os.stat(path).st_size - 2 * MIB) // 64
    assert 0 < first_lost < 1000
    return store, table, first_lost


def test_rows_behind_a_cut_are_an_os_error_and_others_are_served(cut):
    store, table, lost = cut
    for rows in ([lost], [lost - 1, lost], [0, 999]):
        with pytest.raises(OSError, match="cut short") as caught:
            table.lookup(rows)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == path_of(store)
    with pytest.raises(OSError, match="cut short"):
        store.table("behind").lookup([0])
    np.testing.assert_array_equal(table.lookup(np.arange(lost)), numbered_rows(lost, 16))
    table.prefetch([lost, lost - 1])  # a hint that comes to nothing
    np.testing.assert_array_equal(table.lookup([lost - 1]), numbered_rows(1, 16, first=lost - 1))


def test_counters_add_up_though_calls_fail(cut):
    store, table, lost = cut
    table.lookup([1, 1, 2])
    for _ in range(3):
        with pytest.raises(OSError, match="cut short"):
            table.lookup([1, 3, lost])
    stats = store.stats()
    assert stats.calls == 1
    assert stats.lookups == stats.hits + stats.on_demand_fetches
    assert stats.hits == 1


def test_a_file_cut_short_is_not_made_to_look_whole_again(cut):
    store, table, lost = cut
    path = path_of(store)
    size = os.stat(path).st_size
    new = np.full((1, 16), -1, np.float32)
    table.update([5], new)
    table.update([lost + 1], new)
    for refused in (
        store.flush,
        store.close,
        lambda: table.load(np.zeros((1, 16), np.float32), start=999),
        lambda: table.load(np.zeros((1, 16), np.float32), start=0),
        lambda: store.create_table("more", 10, 4),
    ):
        with pytest.raises(OSError, match=f"cut short to {size} bytes of") as caught:
            refused()
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)
    assert os.stat(path).st_size == size
    assert not store.closed
    assert store.stats().fast_tier.dirty_rows == 2
    assert "cut short" in store.stats().updates.write_back_error
    for row in (5, lost + 1):
        np.testing.assert_array_equal(table.lookup([row]), new)
    # Let it end: what was cut off is long enough again.
    os.truncate(path, size + 4096 + 512 * 64)
    store.close()


def test_a_row_that_can_be_read_is_served_while_another_call_fails_beside_it(cut):
    """Both rows come by one read of the failing call, which the other call may wait for."""
    _, table, lost = cut
    stop = threading.Event()

    def fail():
        while not stop.is_set():
            with pytest.raises(OSError, match="cut short"):
                table.lookup([lost - 1, lost])

    with ThreadPoolExecutor(2) as threads:
        failing = [threads.submit(fail) for _ in range(2)]
        try:
            for n in range(2000):
                assert table.lookup([lost - 1])[0, 0] == lost - 1
                table.lookup(4 * n % 400 + np.arange(4))  # so that it is not resident next time
        finally:
            stop.set()
        for thread in failing:
            thread.result()


# Stores forgotten


def test_a_store_that_is_collected_writes_its_updates_home(make_store, closed):
    table = ta.TieredStore(closed, mode="r+", fast_rows=8).table("item")  # keeps its store
    table.update([3], [[7.0] * 4])
    with pytest.raises(BlockingIOError):
        make_store.open(closed)
    gone = weakref.ref(table.store)
    del table
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(make_store.open(closed).table("item").lookup([3]), [[7.0] * 4])


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(3)",
        "raise KeyError('of the program')",
        "store.table('item').lookup([11, 12, 2000])",
        "threading.Thread(target=look_up_for_ever, daemon=True).start(); time.sleep(0.01)",
        "keep = store.__dict__; keep['self'] = keep",  # a cycle that nobody breaks
    ],
)
def test_a_program_that_ends_writes_its_updates_home(make_store, closed, end):
    run = run_python(
        f"""
        import sys, threading, time
        import numpy as np
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        def look_up_for_ever():
            while True:
                store.table("item").lookup(np.arange(1000))
        store.table("item").update([3, 4], np.full((2, 4), 7, np.float32))
        {end}
        """,
        closed,
        flags=("-X", "dev", "-W", "error"),
    )
    told = [line for line in run.stderr.splitlines() if "closed" in line or "Warning" in line]
    if "daemon" not in end:  # which may find the store closed before it is stopped
        assert not told
    assert run.returncode == (3 if "exit" in end else int("raise" in end or "2000" in end))
    np.testing.assert_array_equal(make_store.open(closed).table("item").lookup([3]), [[7.0] * 4])


def test_what_cannot_be_written_home_in_the_end_is_told(closed):
    run = run_python(
        """
        import os, sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        store.table("item").update([3], [[7.0] * 4])
        os.truncate(sys.argv[1], 2 << 20)
        """,
        closed,
    )
    assert "OSError: [Errno 5] the slow tier was cut short" in run.stderr


def test_what_was_flushed_survives_a_kill(make_store, closed):
    killed = run_python(
        """
        import os, signal, sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        item = store.table("item")
        item.update([3], [[7.0] * 4])
        store.flush()
        item.update([4], [[8.0] * 4])
        store.create_table("more", 10, 4)  # writes rows home too
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        closed,
    )
    assert killed.returncode == -signal.SIGKILL
    store = make_store.open(closed)
    np.testing.assert_array_equal(store.table("item").lookup([3, 4]), [[7.0] * 4, [8.0] * 4])
    assert list(store.tables) == ["item", "more"]


# Forked children

FORK = """
import os, sys, threading, warnings
import numpy as np
import tieralloc as ta

# Python from 3.12 on warns of any fork while there are other threads; that is what is tested here.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

def forked(child):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    child()  # and on to the end of the program, unless it ends it

def refused(call):
    try:
        call()
    except ValueError as error:
        return "belongs to the parent process" in str(error)
    return False

path = sys.argv[1]
store = ta.TieredStore(path, mode="r+", fast_rows=8)
item = store.table("item")
item.update([3], [[7.0] * 4])
value = np.ones((1, 4), np.float32)
calls = [lambda: item.lookup([1]), lambda: item.update([1], value), lambda: item.prefetch([1]),
         lambda: item.pin([1]), lambda: item.unpin([1]), lambda: item.load(value, start=0),
         lambda: store.embedding_bag([1], [0, 1]), lambda: store.create_table("t", 1, 1),
         store.flush, store.close, store.stats, store.reset_stats]
"""


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "None"])
def test_a_forked_child_cannot_use_the_store_and_harms_nothing(make_store, closed, end):
    run = run_python(
        FORK
        + f"""
def child():
    assert all(map(refused, calls)), list(map(refused, calls))
    assert not store.closed and "tables" in repr(store)
    {end}

status = forked(child)
if status is None:
    sys.exit(0)
assert status == 0, status
# The lock is still the parent's, and so is what it had not written home.
try:
    ta.TieredStore(path, mode="r+", fast_rows=8)
except BlockingIOError:
    item.update([4], [[8.0] * 4])
    print(item.lookup([3, 4])[:, 0].tolist())
""",
        closed,
        flags=("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning"),
    )
    assert (run.stdout, run.stderr) == ("[7.0, 8.0]\n", "")
    table = make_store.open(closed).table("item")
    np.testing.assert_array_equal(table.lookup([3, 4])[:, 0], [7, 8])


def test_children_forked_beside_calls_end_and_the_calls_go_on(make_store, closed):
    run = run_python(
        FORK
        + """
stop = threading.Event()
def serve(seed):
    rows = np.random.default_rng(seed)
    while not stop.is_set():
        item.lookup(rows.integers(5, 1000, 50))
        item.update(rows.integers(500, 1000, 5), np.full((5, 4), seed, np.float32))
        item.prefetch(rows.integers(5, 1000, 5))
        store.stats()

threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    status = forked(lambda: os._exit(0 if all(map(refused, calls)) else 1))
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
store.close()
print("served")
""",
        closed,
    )
    assert (run.stdout, run.returncode) == ("served\n", 0), run.stderr
    np.testing.assert_array_equal(make_store.open(closed).table("item").lookup([3])[:, 0], [7])


def test_a_forked_child_may_have_a_store_of_its_own(make_store, closed, folder):
    run = run_python(
        FORK
        + """
def child():
    own = ta.TieredStore(sys.argv[2], fast_rows=8)
    own.create_table("own", 10, 4).update([3], [[9.0] * 4])

status = forked(child)
if status is None:
    sys.exit(0)  # without closing it
print(status, item.lookup([3])[0, 0])
store.close()
item = ta.TieredStore(sys.argv[2], mode="r+", fast_rows=8).table("own")
print(item.lookup([3])[0, 0])
""",
        closed,
        folder / "own.tier",
    )
    assert (run.stdout, run.stderr) == ("0 7.0\n9.0\n", "")


def test_a_forked_child_may_open_the_file_once_the_parent_has_closed_it(closed):
    run = run_python(
        FORK
        + """
read, write = os.pipe()
def child():
    os.read(read, 1)
    again = ta.TieredStore(path, mode="r+", fast_rows=8)
    os._exit(int(again.table("item").lookup([3])[0, 0]))

pid = os.fork()
if pid == 0:
    child()
store.close()
os.write(write, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
        closed,
    )
    assert (run.stdout, run.stderr) == ("7\n", "")
