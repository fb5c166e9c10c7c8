"""What survives the end of a process, and when updates are durable. Power cuts: tests/torture."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta

DIMS = [4, 80, 333, 768, 1100]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "emb.tier"
    with ta.TieredStore(path, mode="w", fast_rows=8) as store:
        for dim in DIMS:
            store.create_table(f"dim{dim}", 200, dim).load(numbered_rows(200, dim))
    return path


def killed_after(code, path):
    """Run code with a store and its tables in a child process that kills itself at the end."""
    child = run_python(
        f"""
        import os, signal, sys
        import numpy as np
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], fast_rows=8)
        for table in store.tables.values():
            {code}
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


UPDATE = "table.update([7, 199, 7], np.full((3, table.embedding_dim), 5, np.float32))"


def logs_of(path):
    return sorted(path.parent.glob(f"{path.name}.log-*"))


def check_updated(path, mode="a"):
    with ta.TieredStore(path, mode=mode, fast_rows=8) as store:
        for dim in DIMS:
            expected = numbered_rows(200, dim)
            expected[[7, 199]] = 5
            found = store.table(f"dim{dim}").lookup(np.arange(200))
            np.testing.assert_array_equal(found, expected)


def test_update_survives_kill_without_flush(path):
    killed_after(UPDATE, path)
    assert logs_of(path)
    before = path.read_bytes(), [log.read_bytes() for log in logs_of(path)]
    check_updated(path, mode="r")
    assert (path.read_bytes(), [log.read_bytes() for log in logs_of(path)]) == before
    check_updated(path)  # writes the log to the pages
    assert not logs_of(path)
    check_updated(path, mode="r")


def test_update_continues_log_of_killed_process(path):
    killed_after(UPDATE, path)
    killed_after("table.update([8], np.full((1, table.embedding_dim), 6, np.float32))", path)
    with ta.TieredStore(path, fast_rows=8) as store:
        for table in store.tables.values():
            assert table.lookup([7, 8, 199])[:, -1].tolist() == [5, 6, 5]


def test_open_without_the_log_raises_and_names_it(path):
    killed_after(UPDATE, path)
    (log,) = logs_of(path)
    hidden = log.rename(path.parent / "hidden")
    for mode in ("r", "a"):
        with pytest.raises(FileNotFoundError, match="redo log, which has updates") as caught:
            ta.TieredStore(path, mode=mode, fast_rows=8)
        assert caught.value.filename == str(log)
    hidden.rename(log)
    check_updated(path)


def test_open_with_log_of_another_file_raises(path, tmp_path):
    other = tmp_path / "other.tier"
    shutil.copy(path, other)
    with ta.TieredStore(tmp_path / "third.tier", fast_rows=8) as store:
        store.create_table("a", 10, 4).update([1], np.ones((1, 4), np.float32))
        shutil.copy(tmp_path / "third.tier.log-1", tmp_path / "foreign")
    killed_after(UPDATE, path)
    shutil.move(tmp_path / "foreign", logs_of(path)[0])
    with pytest.raises(ValueError, match="not the redo log of this table file"):
        ta.TieredStore(path, fast_rows=8)


def test_mode_w_removes_log_of_replaced_file(path):
    killed_after(UPDATE, path)
    other = path.parent / f"{path.name}.log-x"
    other.touch()
    with ta.TieredStore(path, mode="w", fast_rows=8) as store:
        assert logs_of(path) == [other]
        table = store.create_table("item", 10, 4)
        table.update([3], np.ones((1, 4), np.float32))
        assert table.lookup([3, 4])[:, 0].tolist() == [1, 0]
    assert logs_of(path) == [other]


def test_log_of_link_is_beside_its_target(path, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "emb"
    link.symlink_to(path)
    killed_after(UPDATE, link)
    assert list(folder.iterdir()) == [link]
    check_updated(path)


def updated_store(path, **options):
    store = ta.TieredStore(slow=ta.File(path, **options), fast_rows=8)
    store.table("dim80").update([7], np.full((1, 80), 5, np.float32))
    return store


def test_update_is_synced_after_the_interval(path):
    with updated_store(path, write_back_interval=0.02) as store:
        while store.stats().updates.unsynced_bytes > 0:
            time.sleep(0.01)
        assert store.stats().updates.dirty_rows == 1


def test_flush_syncs_updates(path):
    with updated_store(path, write_back_interval=1000.0) as store:
        assert store.stats().updates.unsynced_bytes > 0
        store.flush()
        assert store.stats().updates.unsynced_bytes == 0


def test_durability_commit_syncs_each_update(path):
    with updated_store(path, durability="commit") as store:
        assert store.stats().updates.unsynced_bytes == 0


def test_durability_none_syncs_at_flush_only(path):
    with updated_store(path, durability="none") as store:
        assert store.stats().updates.unsynced_bytes > 0
        store.flush()
        assert store.stats().updates.unsynced_bytes == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durability": "full"}, "durability: expected one of 'none', 'flush', 'commit'"),
        ({"write_back_interval": 0}, "write_back_interval: expected .001 to 1e6 seconds, got 0"),
        (
            {"durability": "none", "write_back_interval": 1.0},
            "write_back_interval: no effect with durability='none'",
        ),
    ],
)
def test_file_invalid_durability_raises(options, message):
    with pytest.raises(ValueError, match=message):
        ta.File("emb.tier", **options)


def test_updates_of_more_than_the_log_are_written_back(tmp_path):
    """Three times the segments of the log, in large calls and in one that exceeds a segment."""
    rows, dim = 40_000, 512
    with ta.TieredStore(tmp_path / "emb.tier", mode="w", fast_rows=64) as store:
        table = store.create_table("item", rows, dim)
        expected = np.zeros((rows, dim), np.float32)
        for n, size in enumerate([9_000] * 12 + [rows]):
            chosen = np.random.default_rng(n).permutation(rows)[:size]
            expected[chosen] = n + 1
            table.update(chosen, expected[chosen])
        np.testing.assert_array_equal(table.lookup(np.arange(rows)), expected)
        stats = store.stats()
        assert stats.updates.write_backs > 0
        assert stats.dram.log_bytes < 200 << 20
    assert {*os.listdir(tmp_path)} == {"emb.tier", "emb.tier.warm"}
    with ta.TieredStore(tmp_path / "emb.tier", mode="r", fast_rows=64) as store:
        np.testing.assert_array_equal(store.table("item").lookup(np.arange(rows)), expected)
