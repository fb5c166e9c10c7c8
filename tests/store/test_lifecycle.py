"""The life of a store: close, reopen, lock, garbage collection, exit, kill and fork."""

import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from support import run_python

import tieralloc as ta

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
@pytest.mark.parametrize("served", [False, True], ids=["unused", "used"])
def test_call_after_close_raises(make_store, call, served):
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


def test_file_open_in_a_store_is_locked(make_store, closed_path):
    store = make_store.open(closed_path)
    message = (
        "[Errno 11] file is open in another store: {} writes it; close that one first: "
        f"'{closed_path}'"
    )
    with pytest.raises(BlockingIOError) as caught:
        make_store.open(closed_path)
    assert str(caught.value) == message.format("this process")
    other = run_python(
        """
        import sys
        import tieralloc as ta
        try:
            ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        except BlockingIOError as error:
            print(error)
        """,
        closed_path,
    )
    name = Path("/proc/self/comm").read_text().strip()
    assert other.stdout == message.format(f"process {os.getpid()} ({name})") + "\n"
    assert store.table("item").lookup([7])[0, 0] == 7
    store.close()
    assert make_store.open(closed_path).table("item").lookup([7])[0, 0] == 7


# Garbage collection, exit and kill


def test_garbage_collected_store_writes_updates_back(make_store, closed_path):
    table = ta.TieredStore(closed_path, mode="r+", fast_rows=8).table(
        "item"
    )  # references its store
    table.update([3], [[7.0] * 4])
    with pytest.raises(BlockingIOError):
        make_store.open(closed_path)
    store = weakref.ref(table.store)
    del table
    gc.collect()
    assert store() is None
    np.testing.assert_array_equal(
        make_store.open(closed_path).table("item").lookup([3]), [[7.0] * 4]
    )


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "sys.exit(3)",
        "raise KeyError('of the program')",
        "store.table('item').lookup([11, 12, 2000])",
        "threading.Thread(target=look_up_endlessly, daemon=True).start(); time.sleep(0.01)",
        "keep = store.__dict__; keep['self'] = keep",  # a reference cycle
    ],
)
def test_exiting_program_writes_updates_back(make_store, closed_path, end):
    run = run_python(
        f"""
        import sys, threading, time
        import numpy as np
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        def look_up_endlessly():
            while True:
                store.table("item").lookup(np.arange(1000))
        store.table("item").update([3, 4], np.full((2, 4), 7, np.float32))
        {end}
        """,
        closed_path,
        flags=("-X", "dev", "-W", "error"),
    )
    warnings = [line for line in run.stderr.splitlines() if "closed" in line or "Warning" in line]
    if "daemon" not in end:  # the thread may call the closed store
        assert not warnings
    assert run.returncode == (3 if "exit" in end else int("raise" in end or "2000" in end))
    np.testing.assert_array_equal(
        make_store.open(closed_path).table("item").lookup([3]), [[7.0] * 4]
    )


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("os.truncate(path, 2 << 20)", "OSError: [Errno 5] the slow tier was cut short"),
        ("os.unlink(path)", "FileNotFoundError: [Errno 2] the store's file was deleted"),
        ("os.unlink(path); del store", "FileNotFoundError: [Errno 2] the store's file was deleted"),
        ("os.unlink(path); sys.exit(3)", "FileNotFoundError: [Errno 2] the store's file was"),
        ("os.unlink(path); 1 / 0", "ZeroDivisionError"),
    ],
)
def test_program_that_loses_updates_reports_it_and_exits_with_120(closed_path, end, message):
    run = run_python(
        f"""
        import atexit, os, sys
        import tieralloc as ta
        path = sys.argv[1]
        store = ta.TieredStore(path, mode="r+", fast_rows=8)
        atexit.register(lambda: print("cleaned up", flush=True))
        store.table("item").update([3], [[7.0] * 4])
        print("updated")
        {end}
        """,
        closed_path,
    )
    assert message in run.stderr
    assert f"{closed_path}: the store was not closed before its end" in run.stderr
    assert (run.stdout, run.returncode) == ("updated\ncleaned up\n", 120)


def test_program_whose_close_fails_exits_with_its_own_status(closed_path):
    """`close` raised already: the program knows."""
    run = run_python(
        """
        import os, sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8)
        os.unlink(sys.argv[1])
        try:
            store.close()
        except FileNotFoundError:
            sys.exit(3)
        """,
        closed_path,
    )
    assert (run.stderr, run.returncode) == ("", 3)


# Fork

FORK = """
import os, sys, threading, warnings
import numpy as np
import tieralloc as ta

# Python 3.12 and later warn of a fork while other threads run, as here.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

def forked(child):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    child()  # may exit; otherwise runs on to the end of the program

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
def test_forked_child_calls_raise_and_change_nothing(make_store, closed_path, end):
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
# The parent still holds the lock and its dirty rows.
try:
    ta.TieredStore(path, mode="r+", fast_rows=8)
except BlockingIOError:
    item.update([4], [[8.0] * 4])
    print(item.lookup([3, 4])[:, 0].tolist())
""",
        closed_path,
        flags=("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning"),
    )
    assert (run.stdout, run.stderr) == ("[7.0, 8.0]\n", "")
    table = make_store.open(closed_path).table("item")
    np.testing.assert_array_equal(table.lookup([3, 4])[:, 0], [7, 8])


def test_fork_during_calls_leaves_both_processes_working(make_store, closed_path):
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
        closed_path,
    )
    assert (run.stdout, run.returncode) == ("served\n", 0), run.stderr
    np.testing.assert_array_equal(make_store.open(closed_path).table("item").lookup([3])[:, 0], [7])


def test_forked_child_opens_its_own_store(make_store, closed_path, folder):
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
        closed_path,
        folder / "own.tier",
    )
    assert (run.stdout, run.stderr) == ("0 7.0\n9.0\n", "")


def test_forked_child_opens_file_after_parent_closed_it(closed_path):
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
        closed_path,
    )
    assert (run.stdout, run.stderr) == ("7\n", "")
