"""The modes of a file: open, create, replace, read; and locks between stores."""

import errno
import io
import itertools
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import numbered_rows, real_folder, run_python, store_of

import tieralloc as ta

MODES = ("r", "r+", "a", "w")
ROWS = numbered_rows(100, 4)


def make_file(path):
    with store_of(path, fast_rows=8, reserve=False) as store:
        store.create_table("item", 100, 4).load(ROWS)


def make_truncated(path):
    make_file(path)
    os.truncate(path, (2 << 20) + 4096)


def make_damaged(path):
    make_file(path)
    with open(path, "r+b") as file:
        for at in (0, 1 << 20):
            file.seek(at + 40)
            file.write(b"damage")


def make_newer(path):
    make_file(path)
    with open(path, "r+b") as file:
        for at in (0, 1 << 20):
            file.seek(at + 8)
            file.write(b"\3")


def make_read_only(path):
    make_file(path)
    path.chmod(0o444)


# Result of each mode on each file: "opened", "created", or the error.
FILES = {
    "none": (lambda path: None, dict.fromkeys(("r", "r+"), FileNotFoundError)),
    "store": (make_file, {"a": "opened"}),
    "read-only store": (make_read_only, {"r": "opened"} | dict.fromkeys(("r+", "a", "w"), OSError)),
    "truncated": (make_truncated, dict.fromkeys(("r", "r+", "a"), ValueError)),
    "damaged": (make_damaged, dict.fromkeys(("r", "r+", "a"), ValueError)),
    "newer": (make_newer, dict.fromkeys(("r", "r+", "a"), ValueError)),
    "empty": (lambda path: path.touch(), dict.fromkeys(MODES, ValueError)),
    "text": (
        lambda path: path.write_text("All happy families " * 1000),
        dict.fromkeys(MODES, ValueError),
    ),
    "zeros": (lambda path: path.write_bytes(bytes(3 << 20)), dict.fromkeys(MODES, ValueError)),
    "folder": (lambda path: path.mkdir(), dict.fromkeys(MODES, IsADirectoryError)),
}
USUAL = {"r": "opened", "r+": "opened", "a": "created", "w": "created"}


def content(path):
    if path.is_dir():
        return sorted(path.iterdir())
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FILES)
def test_mode_of_each_file_opens_creates_or_refuses(folder, kind, mode):
    make, outcomes = FILES[kind]
    path = folder / "emb.tier"
    make(path)
    before = content(path)
    outcome = outcomes.get(mode, USUAL[mode])
    if isinstance(outcome, type):
        with pytest.raises(outcome, match=r"emb\.tier"):
            ta.TieredStore(path, mode=mode, fast_rows=8)
        assert content(path) == before
    else:
        with ta.TieredStore(path, mode=mode, fast_rows=8) as store:
            assert list(store.tables) == (["item"] if outcome == "opened" else [])
            if outcome == "opened":
                np.testing.assert_array_equal(store.table("item").lookup(np.arange(100)), ROWS)
        assert (content(path) == before) == (outcome == "opened")
    assert set(folder.iterdir()) <= {path, path.with_name(f"{path.name}.warm")}  # none for a while


def test_mode_a_is_the_default(folder):
    path = folder / "emb.tier"
    assert ta.File(path).mode == "a"
    for tables in ([], ["item"]):
        with ta.TieredStore(path, fast_rows=8) as store:
            assert list(store.tables) == tables
            if not tables:
                store.create_table("item", 10, 4)


def test_create_table_known_name_error_names_table_call(folder):
    path = folder / "emb.tier"
    make_file(path)
    with ta.TieredStore(path, fast_rows=8) as store:
        message = r"name: table 'item' exists already; expected a new name"
        with pytest.raises(ValueError, match=message):
            store.create_table("item", 100, 4)
        np.testing.assert_array_equal(store.table("item").lookup([99]), ROWS[[99]])


def test_mode_w_on_existing_file_replaces_it(folder):
    for n in range(2):
        with ta.TieredStore(folder / "emb.tier", mode="w", fast_rows=8) as store:
            table = store.create_table("item", 10, 4)
            assert not table.lookup([3]).any()
            table.update([3], np.full((1, 4), n + 1, np.float32))


def test_mode_w_keeps_permissions_and_symlink(folder):
    target, link = folder / "disk.tier", folder / "emb.tier"
    make_file(target)
    target.chmod(0o640)
    link.symlink_to(target.name)
    ta.TieredStore(link, mode="w", fast_rows=8).close()
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with ta.TieredStore(target, mode="r", fast_rows=8) as store:
        assert not store.tables
    assert set(folder.iterdir()) == {target, link}


@pytest.mark.parametrize(
    ("file", "budget", "kind"),
    [
        ({"engine": "aio"}, {"fast_rows": 8}, ValueError),
        ({}, {"fast_rows": 8, "fast_node": 4000}, ValueError),
        ({}, {"fast_bytes": "1000TiB"}, MemoryError),
        ({}, {"fast_bytes": 1}, ValueError),
    ],
)
def test_mode_w_that_fails_leaves_former_file(folder, file, budget, kind):
    path = folder / "emb.tier"
    make_file(path)
    before = path.read_bytes()
    with pytest.raises(kind):
        store_of(path, "w", **file, **budget)
    assert path.read_bytes() == before
    assert list(folder.iterdir()) == [path]


# Reading

WRITES = {
    "create_table": lambda store, table: store.create_table("more", 1, 1),
    "load": lambda store, table: table.load(ROWS),
    "load of nothing": lambda store, table: table.load([], start=0),
    "update": lambda store, table: table.update([0], ROWS[:1]),
    "update of nothing": lambda store, table: table.update([], ROWS[:0]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_mode_r_refuses_writes_and_still_serves(folder, write):
    path = folder / "emb.tier"
    make_file(path)
    before = path.read_bytes()
    with ta.TieredStore(path, mode="r", fast_rows=8) as store:
        table = store.table("item")
        message = r"emb\.tier: .* writes; expected a store of mode 'r\+' or 'a', got mode 'r'"
        with pytest.raises(io.UnsupportedOperation, match=message):
            write(store, table)
        table.prefetch([5, 6])
        table.pin([7])
        np.testing.assert_array_equal(table.lookup(np.arange(100)), ROWS)
        store.flush()
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="the store is closed"):
        write(store, table)


def test_mode_r_opens_read_only_file(folder):
    path = folder / "emb.tier"
    make_read_only(path)
    with pytest.raises(
        PermissionError, match=r"file is read-only; open it with mode 'r'"
    ) as caught:
        ta.TieredStore(path, fast_rows=8)
    assert (caught.value.errno, caught.value.filename) == (errno.EACCES, str(path))
    with ta.TieredStore(path, mode="r", fast_rows=8) as store:
        np.testing.assert_array_equal(store.table("item").lookup([3]), ROWS[[3]])


def test_readers_in_processes_share_a_file(folder):
    path = folder / "emb.tier"
    make_file(path)
    code = """
        import sys
        import numpy as np
        import tieralloc as ta
        with ta.TieredStore(sys.argv[1], mode="r", fast_rows=8) as store:
            print(store.table("item").lookup(np.arange(100)).sum(), flush=True)
            sys.stdin.read()  # holds the file
    """
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        assert [float(reader.stdout.readline()) for reader in readers] == [ROWS.sum()] * 3
        for mode in ("r+", "a", "w"):
            with pytest.raises(BlockingIOError, match="file is open in another store"):
                ta.TieredStore(path, mode=mode, fast_rows=8)
        ta.TieredStore(path, mode="r", fast_rows=8).close()
    finally:
        for reader in readers:
            reader.communicate(input="")
    assert [reader.returncode for reader in readers] == [0] * 3
    with ta.TieredStore(path, mode="r+", fast_rows=8) as store:
        store.table("item").update([1], ROWS[:1])


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.sampled_from([*MODES, "close"]), st.integers(0, 5)), max_size=25)
)
def test_file_has_one_writer_or_readers(steps):
    """Open and close stores in any order, against a model of the file and its value."""
    stores, value = [], None  # of (mode, store)
    with real_folder() as folder:
        path = folder / "emb.tier"
        try:
            for mode, number in steps:
                held = [mode for mode, _ in stores]
                if mode == "close":
                    if stores:
                        stores.pop(number % len(stores))[1].close()
                elif held and not (mode == "r" and set(held) == {"r"}):
                    with pytest.raises(BlockingIOError):
                        store_of(path, mode, fast_rows=8)
                elif mode in ("r", "r+") and value is None:
                    with pytest.raises(FileNotFoundError):
                        store_of(path, mode, fast_rows=8)
                else:
                    store = store_of(path, mode, fast_rows=8)
                    stores.append((mode, store))
                    if mode == "w" or value is None:
                        store.create_table("item", 10, 4)
                        value = 0
                    table = store.table("item")
                    assert table.lookup([3])[0, 0] == value
                    if mode != "r":
                        value = number
                        table.update([3], np.full((1, 4), number, np.float32))
        finally:
            for _, store in stores:
                store.close()


# Killed and concurrent processes


def test_mode_w_killed_process_leaves_a_valid_file(folder):
    path = folder / "emb.tier"
    make_file(path)
    code = """
        import sys
        import tieralloc as ta
        print("ready", flush=True)
        while True:
            with ta.TieredStore(sys.argv[1], mode="w", fast_rows=8) as store:
                store.create_table("item", 100, 4)
    """
    for n in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)],
            stdout=subprocess.PIPE,
        )
        child.stdout.readline()
        time.sleep(0.003 * n)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with ta.TieredStore(path, mode="r+", fast_rows=8) as store:
            assert list(store.tables) in ([], ["item"])
            for table in store.tables.values():
                assert table.lookup(np.arange(100)).shape == (100, 4)


@pytest.mark.parametrize("mode", ["a", "w"])
def test_stores_creating_a_file_concurrently_one_succeeds(folder, mode):
    for n in range(20):
        path = folder / f"{n}.tier"
        start = threading.Barrier(4)
        stores, refused = [], []

        def make(path=path, start=start, stores=stores, refused=refused):
            start.wait()
            try:
                stores.append(ta.TieredStore(path, mode=mode, fast_rows=8))
            except (BlockingIOError, FileExistsError) as error:
                refused.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(stores), len(refused)) == (1, 3)
        stores[0].create_table("item", 10, 4).update([3], ROWS[:1])
        stores[0].close()
        with ta.TieredStore(path, mode="r", fast_rows=8) as store:
            np.testing.assert_array_equal(store.table("item").lookup([3]), ROWS[:1])
    assert len(list(folder.iterdir())) == 20


# Options of a file

FILE_ERRORS = {
    "mode": ({"mode": "x"}, ValueError, "mode: expected one of 'r', 'r+', 'a', 'w', got 'x'"),
    "mode None": (
        {"mode": None},
        ValueError,
        "mode: expected one of 'r', 'r+', 'a', 'w', got None",
    ),
    "engine": ({"engine": "aio"}, ValueError, "engine: expected one of 'auto', 'io_uring', "),
    "engine None": ({"engine": None}, ValueError, "engine: expected one of 'auto', "),
    "queue_depth 0": ({"queue_depth": 0}, ValueError, "queue_depth: expected 1 to 4096, got 0"),
    "queue_depth": ({"queue_depth": 4097}, ValueError, "queue_depth: expected 1 to 4096, got 4097"),
    "queue_depth float": ({"queue_depth": 1.5}, TypeError, "queue_depth: expected int, got float"),
    "prefetch_threads": (
        {"prefetch_threads": 33},
        ValueError,
        "prefetch_threads: expected 1 to 32",
    ),
    "direct": ({"direct": 1}, TypeError, "direct: expected a bool, got 1"),
    "reserve": ({"reserve": "no"}, TypeError, "reserve: expected a bool, got 'no'"),
    "reserve and r": (
        {"mode": "r", "reserve": False},
        ValueError,
        "reserve: no effect with mode='r",
    ),
    "path": ({"path": 3}, TypeError, "path: expected a path, got 3"),
    "NUL": ({"path": "a\0b"}, ValueError, "path: expected a path without NUL bytes, got 'a"),
}


def test_file_accepts_all_engines_of_the_core():
    for engine in ("auto", *ta._bindings.fetch_engines()):
        assert ta.File("emb.tier", engine=engine).engine == engine


@pytest.mark.parametrize(("options", "error", "message"), FILE_ERRORS.values(), ids=FILE_ERRORS)
def test_file_invalid_arguments_raise(options, error, message):
    with pytest.raises(error) as caught:
        ta.File(**{"path": "emb.tier", **options})
    assert str(caught.value).startswith(message)


def test_tiers_are_frozen_with_keyword_options():
    file = ta.File("emb.tier", queue_depth=8)
    for make in (lambda: ta.File("emb.tier", "w"), lambda: ta.NumaMemory(0, True)):
        with pytest.raises(TypeError, match="positional argument"):
            make()
    with pytest.raises(AttributeError):
        file.mode = "w"
    assert len({file, ta.File("emb.tier", queue_depth=8), ta.NumaMemory(0)}) == 2


def test_store_path_is_short_for_file(folder):
    names = itertools.count()
    for mode in ("w", "a"):
        short = ta.TieredStore(folder / f"{next(names)}", mode=mode, fast_rows=8)
        long = ta.TieredStore(slow=ta.File(folder / f"{next(names)}", mode=mode), fast_rows=8)
        with short, long:
            tiers = [store.stats().slow_tier for store in (short, long)]
            assert replace(tiers[0], path="") == replace(tiers[1], path="")


def test_forked_child_does_not_inherit_reader_lock(folder):
    """Children do not inherit the lock of a reader either."""
    path = folder / "emb.tier"
    make_file(path)
    run = run_python(
        """
        import os, sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="r", fast_rows=8)
        ready_read, ready_write = os.pipe()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.write(ready_write, b"x")  # fork handlers have closed the file
            os.read(read, 1)
            os._exit(0)
        os.read(ready_read, 1)
        store.close()
        ta.TieredStore(sys.argv[1], mode="r+", fast_rows=8).close()
        os.close(write)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        path,
        flags=("-W", "ignore::DeprecationWarning"),
    )
    assert (run.stdout, run.stderr) == ("0\n", "")
