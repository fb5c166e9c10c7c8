"""A store switches to another version of its file: calls are of one version, and it stays warm."""

import logging
import os
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from support import numbered_rows, run_python

import tieralloc as ta
from tieralloc.restart import ResidentSet

ROWS = 1000
DIM = 16
TABLES = ("item", "user")


def values_of(version):
    return numbered_rows(ROWS, DIM) + np.float32(version) * ROWS


def make_file(path, version, tables=TABLES, rows=ROWS, dim=DIM, dtype="float32"):
    with ta.TieredStore(path, mode="w", fast_rows=8) as store:
        for name in tables:
            table = store.create_table(name, rows, dim, dtype)
            if (rows, dim, dtype) == (ROWS, DIM, "float32"):
                table.load(values_of(version))
    return path


@pytest.fixture
def files(tmp_path):
    """Paths of two versions."""
    return [make_file(str(tmp_path / f"v{version}.tier"), version) for version in (0, 1)]


def open_store(path, mode="r+", fast_rows=100, **options):
    return ta.TieredStore(path, mode=mode, fast_rows=fast_rows, **options)


def versions_in(values, rows):
    return np.unique((values[:, 0] - rows) / ROWS).tolist()


def version_of(store, rows=(1, 2, 3)):
    """The version that a lookup sees, the same for all rows of all tables."""
    rows = np.asarray(rows)
    found = set()
    for name in TABLES:
        found.update(versions_in(store.table(name).lookup(rows), rows))
    assert len(found) == 1
    return int(found.pop())


@pytest.mark.parametrize("mode", ["r", "r+", "a"])
def test_switched_store_serves_the_new_file_and_back(files, mode):
    with open_store(files[0], mode) as store:
        table = store.table("item")
        assert version_of(store) == 0
        done = store.switch(files[1])
        assert (version_of(store), done.path, done.done) == (1, files[1], True)
        assert store.table("item") is table
        stats = store.stats()
        assert (stats.slow_tier.path, stats.switches) == (files[1], 1)
        assert store.rollback().path == files[0]
        assert version_of(store) == 0
        store.rollback()
        assert version_of(store) == 1


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "sieve", "clock", "lfu", "random"])
def test_switched_store_has_the_resident_rows(files, policy):
    wanted = np.arange(0, 500, 10)
    with open_store(files[0], policy=policy) as store:
        for name in TABLES:
            store.table(name).lookup(wanted)
        assert store.switch(files[1]).resident_rows == 2 * len(wanted)
        assert version_of(store, wanted) == 1
        assert store.stats().on_demand_fetches == 0


def test_small_tables_stay_in_dram(files):
    with ta.TieredStore(files[0], fast_bytes="16MiB") as store:
        assert store.table("item").resident
        store.switch(files[1])
        assert store.table("item").resident
        assert version_of(store, np.arange(ROWS)) == 1
        assert store.stats().on_demand_fetches == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": ("item", "users")}, "table 1: expected 'user', got 'users'"),
        ({"tables": ("item",)}, "expected 2 tables, got 1; the first of only one file is 'user'"),
        ({"tables": (*TABLES, "shop")}, "expected 2 tables, got 3; .* 'shop'"),
        ({"rows": ROWS + 1}, "rows of table 'item': expected 1000, got 1001"),
        ({"dim": DIM * 2}, "dim of table 'item': expected 16, got 32"),
        ({"dtype": "float16"}, "dtype of table 'item': expected 'float32', got 'float16'"),
    ],
)
def test_file_of_other_tables_is_refused_by_name(files, tmp_path, change, message):
    other = make_file(str(tmp_path / "other.tier"), 2, **change)
    with open_store(files[0]) as store:
        with pytest.raises(ValueError, match=rf"other\.tier: {message}"):
            store.switch(other)
        assert (version_of(store), store.stats().switches) == (0, 0)
        open_store(other).close()  # it is not locked
        store.switch(files[1])


def test_files_that_cannot_be_opened_change_nothing(files, tmp_path):
    (tmp_path / "text").write_text("no table file")
    with open_store(files[0]) as store, open_store(files[1]) as other:
        with pytest.raises(FileNotFoundError):
            store.switch(tmp_path / "missing.tier")
        assert not (tmp_path / "missing.tier").exists()
        with pytest.raises(ValueError, match="not a tieralloc file"):
            store.switch(tmp_path / "text")
        with pytest.raises(BlockingIOError, match="this process writes it"):
            store.switch(files[1])
        with pytest.raises(ValueError, match="is the file that serves"):
            store.switch(files[0])
        assert version_of(store) == 0
        other.close()
        store.switch(files[1])


def test_store_without_a_former_file_or_closed_refuses(files):
    store = open_store(files[0])
    with pytest.raises(RuntimeError, match="rollback: the store has not been switched"):
        store.rollback()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.switch(files[1])


def test_too_little_memory_is_an_error_and_changes_nothing(tmp_path, monkeypatch):
    paths = [str(tmp_path / f"{name}.tier") for name in "ab"]
    for path in paths:  # sparse files: the fast tier could take 1 TiB
        with ta.TieredStore(slow=ta.File(path, mode="w", reserve=False), fast_rows=8) as store:
            store.create_table("item", 1 << 32, 64)
    with open_store(paths[0]) as store:
        monkeypatch.setitem(store._fast, "fast_rows", 0)
        monkeypatch.setitem(store._fast, "fast_bytes", 1 << 40)
        with pytest.raises(MemoryError, match="fast"):
            store.switch(paths[1])
        assert store.stats().slow_tier.path == paths[0]
        open_store(paths[1]).close()


def test_file_replaced_since_is_no_target_of_a_rollback(files, tmp_path):
    with open_store(files[0], "r") as store:
        store.switch(files[1])
        os.replace(make_file(str(tmp_path / "other.tier"), 2), files[0])
        with pytest.raises(ValueError, match=r"v0\.tier: replaced since the store served it"):
            store.rollback()
        assert version_of(store) == 1
        store.switch(files[0])
        assert version_of(store) == 2


def test_reader_can_switch_to_a_new_file_of_the_same_path(files, tmp_path):
    with open_store(files[0], "r") as store:
        os.replace(files[1], files[0])
        assert version_of(store) == 0
        store.switch(files[0])
        assert version_of(store) == 1


def test_damaged_file_is_not_switched_to(files, caplog):
    rows = np.arange(0, ROWS, 7)
    with open_store(files[1], "r", fast_rows=1) as store:
        pages = store._core.pages(0)
    damaged = bytearray(Path(files[1]).read_bytes())
    begin = len(damaged) - 2 * pages[0] * 4096
    for page in range(pages[0]):
        damaged[begin + page * 4096 + 5] ^= 1
    Path(files[1]).write_bytes(damaged)
    with open_store(files[0], fast_rows=500) as store:
        store.table("item").lookup(rows)
        with pytest.raises(OSError, match="damaged"):
            store.switch(files[1])
        assert version_of(store) == 0
        failed = store.switch(files[1], background=True)
        with pytest.raises(OSError, match="damaged"):
            failed.wait(60)
        assert "event=switch_failed" in caplog.text
    with ta.TieredStore(files[0], fast_bytes="16MiB") as store:
        assert version_of(store) == 0
        with pytest.raises(OSError, match="table 'item' cannot be read"):
            store.switch(files[1])
        assert version_of(store) == 0


def test_updates_are_in_the_file_that_served_them(files):
    new = np.full((1, DIM), 7, np.float32)
    with open_store(files[0]) as store:
        store.table("item").update([5], new)
        store.switch(files[1])
        np.testing.assert_array_equal(store.table("item").lookup([5]), values_of(1)[[5]])
        store.table("item").update([6], new)
        store.rollback()
        np.testing.assert_array_equal(store.table("item").lookup([5, 6]), [new[0], values_of(0)[6]])
    with open_store(files[1]) as store:
        np.testing.assert_array_equal(store.table("item").lookup([5, 6]), [values_of(1)[5], new[0]])


def test_pins_are_carried_over(files):
    with open_store(files[0], fast_rows=50) as store:
        store.table("item").pin([1, 2])
        store.table("user").pin([3])
        store.table("user").unpin([3])
        store.switch(files[1])
        assert store.stats().fast_tier.pinned_rows == 2
        for name in TABLES:
            store.table(name).lookup(np.arange(500, 900))
        store.reset_stats()
        store.table("item").lookup([1, 2])
        assert store.stats().on_demand_fetches == 0
        store.table("item").unpin([1, 2])
        assert store.stats().fast_tier.pinned_rows == 0


def test_policy_set_before_or_during_a_switch_goes_on(files):
    with open_store(files[0], policy="lru") as store:
        store.use_policy("sieve")
        running = store.switch(files[1], background=True)
        store.use_policy("lfu")
        running.wait()
        assert store.stats().policy == "lfu"
        for _ in range(5):
            store.table("item").lookup(np.arange(50))
        store.table("item").lookup(np.arange(100, 1000))  # lfu keeps the frequent rows
        store.reset_stats()
        store.table("item").lookup(np.arange(50))
        assert store.stats().on_demand_fetches == 0


def test_recording_has_the_accesses_of_both_versions(files):
    calls = np.random.default_rng(0).integers(0, ROWS, (300, 10))
    with open_store(files[0]) as store:
        with store.record() as recorder:
            for number, rows in enumerate(calls):
                store.table("user").lookup(rows)
                if number % 100 == 50:
                    store.switch(files[(number // 100 + 1) % 2])
        trace = recorder.to_trace(require_complete=True)
        np.testing.assert_array_equal(trace.accesses(), ROWS + calls.ravel())
        with store.record() as recorder:
            store.table("item").lookup([1])
        assert recorder.num_lookups == 1


def test_only_one_switch_runs_at_a_time(files, tmp_path):
    third = make_file(str(tmp_path / "v2.tier"), 2)
    with open_store(files[0]) as store:
        with store._versions.changing:  # as another change that is in progress
            running = store.switch(files[1], background=True)
            assert not running.wait(0.01)
            with pytest.raises(RuntimeError, match=r"a switch to .*v1\.tier is running"):
                store.switch(third)
        assert running.wait(60)
        store.switch(third)
        assert version_of(store) == 2


def test_table_created_meanwhile_ends_the_switch(files):
    with open_store(files[0], fast_rows=1500) as store:
        with store._versions.changing:  # as another change that is in progress
            running = store.switch(files[1], background=True)
            store.create_table("shop", 10, DIM)
        with pytest.raises(ValueError, match="expected 3 tables, got 2"):
            running.wait(60)
        assert version_of(store) == 0


def test_closing_the_store_ends_a_switch(files):
    for delay in (0, 0.001, 0.01, 0.1):
        store = open_store(files[0], fast_rows=1500)
        for name in TABLES:
            store.table(name).lookup(np.arange(700))
        running = store.switch(files[1], background=True)
        time.sleep(delay)
        store.close()
        assert running.done
        if store._versions.switches == 0:
            with pytest.raises(RuntimeError, match="ended before the file served"):
                running.wait()
        for path in files:
            open_store(path).close()


def test_call_in_progress_ends_on_the_former_version(files):
    """A call that began before the switch keeps its version's file open until it ends."""
    with open_store(files[0]) as store:
        core = store._core  # as a call holds it
        store.switch(files[1])
        with pytest.raises(BlockingIOError):
            open_store(files[0])
        values, _ = core.lookup(0, [1], None, False, "fatal")
        np.testing.assert_array_equal(values, values_of(0)[[1]])
        assert version_of(store) == 1
        del core, values
        store._versions.release_former()
        open_store(files[0]).close()
        assert ResidentSet.read(f"{files[0]}.warm").rows.size > 0


def test_kept_exceptions_do_not_keep_the_former_file(files):
    with open_store(files[0]) as store:
        kept = []
        for call in (
            lambda: store.table("item").lookup([ROWS]),
            lambda: store.embedding_bag([ROWS], [0, 1], ["item"]),
            lambda: store.table("item").load(np.zeros((3, DIM), np.float32)),
            lambda: store.table("item").load(iter([np.zeros((3, 5), np.float32)])),
            lambda: store.table("item").update([ROWS], np.zeros((1, DIM), np.float32)),
        ):
            try:
                call()
            except Exception as error:
                kept.append(error)
        assert len(kept) == 5
        store.switch(files[1])
        store._versions.release_former()
        open_store(files[0]).close()


def test_calls_beside_switches_see_one_version(files):
    failures, seen = [], set()
    stop = threading.Event()
    with open_store(files[0]) as store:

        def serve(seed):
            rng = np.random.default_rng(seed)
            try:
                while not stop.is_set():
                    rows = rng.zipf(1.3, 20) % ROWS
                    out = store.embedding_bag(np.tile(rows, 2), [0, 20, 40])
                    versions = {(out[0, at] - rows.sum()) / (20 * ROWS) for at in (0, DIM)}
                    assert len(versions) == 1, versions
                    seen.update(versions)
                    store.table("item").prefetch(rng.integers(0, ROWS, 20))
            except BaseException:
                failures.append(traceback.format_exc())

        threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for number in range(20):
            store.switch(files[1 - number % 2])
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    assert seen == {0.0, 1.0}


def test_model_sees_one_version_in_a_forward_pass(tmp_path):
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def __init__(self, version):
            super().__init__()
            for name in TABLES:
                weight = torch.from_numpy(values_of(version))
                setattr(self, name, torch.nn.Embedding.from_pretrained(weight))

        def forward(self, rows, between):
            first = self.item(rows)
            between()
            return first, self.user(rows)

    paths, models, stores = [], [], []
    for version in (0, 1):
        paths.append(str(tmp_path / f"{version}.tier"))
        stores.append(ta.TieredStore(paths[-1], mode="w", fast_rows=100))
        models.append(Model(version))
        ta.nn.convert(models[-1], stores[-1], verbose=False)
    stores[1].close()
    rows = torch.tensor([3, 4])
    started = []
    with stores[0] as store:

        def switch():
            started.append(store.switch(paths[1]))

        expected = torch.from_numpy(values_of(0)[[3, 4]])
        for result in models[0](rows, switch):
            assert result.equal(expected)
        for result in models[0](rows, lambda: None):
            assert result.equal(expected + ROWS)
        whole = ta.nn.state_dict(models[0])
        assert all(whole[f"{name}.weight"].numpy()[0, 0] == ROWS for name in TABLES)
        store._versions.release_former()


def test_end_of_the_program_ends_a_switch(files):
    done = run_python(
        """
        import sys
        import numpy as np
        import tieralloc as ta
        store = ta.TieredStore(sys.argv[1], fast_rows=1500)
        for table in store.tables.values():
            table.lookup(np.arange(700))
            table.update([1], np.zeros((1, 16), np.float32))
        running = store.switch(sys.argv[2], background=True)
        """,
        *files,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with open_store(files[0]) as store:
        assert not store.table("user").lookup([1]).any()


def test_switch_is_logged_once(files, caplog):
    with caplog.at_level(logging.INFO, "tieralloc"), open_store(files[0]) as store:
        store.switch(files[1])
    assert caplog.text.count("event=version_switched") == 1
