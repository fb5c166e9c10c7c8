"""A store that opens its file again has the rows that were resident before."""

import logging
import signal
import time

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta
from tieralloc.restart import ResidentSet

ROWS = numbered_rows(1000, 16)


def make(path, policy="lru", **options):
    store = ta.TieredStore(
        slow=ta.File(path, mode="w", reserve=False, **options), fast_rows=50, policy=policy
    )
    store.create_table("item", 1000, 16).load(ROWS)
    return store


def reopen(path, mode="r+", **options):
    return ta.TieredStore(slow=ta.File(path, mode=mode, **options), fast_rows=50, policy="lru")


def misses(store, indices):
    store.reset_stats()
    np.testing.assert_array_equal(store.table("item").lookup(indices), ROWS[indices])
    return store.stats().on_demand_fetches


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "sieve", "clock", "lfu", "random"])
def test_reopened_store_has_the_resident_rows(tmp_path, policy):
    path = tmp_path / "a.tier"
    wanted = np.arange(0, 500, 10)
    with make(path, policy) as store:
        store.table("item").lookup(wanted)
    with reopen(path) as store:
        assert store._versions.current.wait(30)
        assert misses(store, wanted) == 0


def test_lru_goes_on_as_if_it_had_not_been_closed(tmp_path):
    accesses = np.random.default_rng(0).zipf(1.3, 4000) % 1000
    with make(tmp_path / "a.tier") as store:
        misses(store, accesses[:2000])
        expected = misses(store, accesses[2000:])
    with make(tmp_path / "b.tier") as store:
        misses(store, accesses[:2000])
    with reopen(tmp_path / "b.tier") as store:
        assert store._versions.current.wait(30)
        assert misses(store, accesses[2000:]) == expected


def test_reader_is_warm_too_and_saves_nothing(tmp_path):
    path = tmp_path / "a.tier"
    with make(path) as store:
        store.table("item").lookup([1, 2, 3])
    saved = (tmp_path / "a.tier.warm").read_bytes()
    with reopen(path, mode="r") as store:
        assert store._versions.current.wait(30)
        assert misses(store, [1, 2, 3]) == 0
        store.table("item").lookup([4])
    assert (tmp_path / "a.tier.warm").read_bytes() == saved


def test_without_interval_no_file_is_written(tmp_path):
    with make(tmp_path / "a.tier", warm_restart_interval=None) as store:
        store.table("item").lookup([1])
    assert not (tmp_path / "a.tier.warm").exists()


def test_killed_process_leaves_the_last_saved_rows(tmp_path):
    done = run_python(
        """
        import os, signal, sys, time
        import tieralloc as ta
        slow = ta.File(sys.argv[1], mode="w", warm_restart_interval=0.01)
        store = ta.TieredStore(slow=slow, fast_rows=50)
        store.create_table("item", 1000, 16).lookup(range(40))
        first = time.time()
        while not os.path.exists(sys.argv[1] + ".warm") or (
            os.stat(sys.argv[1] + ".warm").st_mtime < first + 0.1
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path / "a.tier",
    )
    assert done.returncode == -signal.SIGKILL
    with reopen(tmp_path / "a.tier") as store:
        assert store._versions.current.wait(30)
        store.table("item").lookup(range(40))
        assert store.stats().on_demand_fetches == 0


def test_exit_without_close_saves_the_rows(tmp_path):
    done = run_python(
        """
        import sys
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], mode="w", fast_rows=50)
        store.create_table("item", 1000, 16).lookup(range(40))
        while not store._versions.current.wait(1): pass
        """,
        tmp_path / "a.tier",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ResidentSet.read(tmp_path / "a.tier.warm").rows.size == 40


@pytest.mark.parametrize("damage", ["other file", "other tables", "no archive", "directory"])
def test_file_that_does_not_fit_is_ignored_and_named(tmp_path, caplog, damage):
    path, warm = tmp_path / "a.tier", tmp_path / "a.tier.warm"
    with make(path) as store:
        store.table("item").lookup([1, 2])
    saved = ResidentSet.read(warm)
    if damage == "other file":
        ResidentSet(saved.tables, saved.rows, 5).write(warm)
    elif damage == "other tables":
        ResidentSet([("item", 999)], saved.rows).write(warm)
    else:
        warm.unlink()
        warm.mkdir() if damage == "directory" else warm.write_bytes(b"no archive")
    with caplog.at_level(logging.WARNING, "tieralloc"), reopen(path) as store:
        assert store._versions.current.wait(30)
        assert misses(store, [1, 2]) == 2
        fields = caplog.records[0].tieralloc
        assert (fields["event"], fields["store"]) == ("warm_restart_ignored", str(path))
        assert fields["file"] == str(warm)
        assert fields["reason"]


def test_rows_brought_back_are_logged(tmp_path, caplog):
    path = tmp_path / "a.tier"
    with make(path) as store:
        store.table("item").lookup([1, 2])
    with caplog.at_level(logging.INFO, "tieralloc"), reopen(path) as store:
        assert store._restart.wait(30)
    (fields,) = [record.tieralloc for record in caplog.records]
    assert (fields["event"], fields["rows"]) == ("warm_restart_used", 2)
    assert 0 <= fields["seconds"] < 30


def test_store_closed_at_once_keeps_the_saved_rows(tmp_path):
    path = tmp_path / "a.tier"
    wanted = np.arange(50)
    with make(path) as store:
        store.table("item").lookup(wanted)
    for _ in range(20):
        reopen(path).close()
    with reopen(path) as store:
        assert store._versions.current.wait(30)
        assert misses(store, wanted) == 0


def test_warm_up_brings_rows_of_a_mapping_and_of_a_file(tmp_path):
    with make(tmp_path / "a.tier", warm_restart_interval=None) as store:
        assert store.warm_up({"item": [7, 8]}) == 2
        assert misses(store, [7, 8]) == 0
        rows = ResidentSet([("item", 1000)], np.array([9], np.uint64))
        rows.write(tmp_path / "rows.warm")
        assert store.warm_up(tmp_path / "rows.warm") == 1
        assert misses(store, [9]) == 0
        with pytest.raises(IndexError, match="expected 0 to 999, got 1000"):
            store.warm_up({"item": [1, 1000]})
        rows = ResidentSet([("user", 1000)], np.array([9], np.uint64))
        rows.write(tmp_path / "rows.warm")
        with pytest.raises(ValueError, match=r"rows\.warm: table 0: expected .*item"):
            store.warm_up(tmp_path / "rows.warm")


def test_warm_up_beside_lookups_serves_right_rows(tmp_path):
    path = tmp_path / "a.tier"
    with make(path) as store:
        store.table("item").lookup(np.arange(0, 1000, 20))
    deadline = time.monotonic() + 2
    for _ in range(20):
        with reopen(path) as store:
            while not store._versions.current.wait(0) and time.monotonic() < deadline:
                misses(store, np.random.default_rng(1).integers(0, 1000, 20))
