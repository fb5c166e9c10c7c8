"""Updates of a checkpoint's rows, in an overlay."""

import errno
import os

import numpy as np
import pytest
from checkpoint_support import make_shards, shuffled, store_of
from support import run_python

import tieralloc as ta

TABLES = {"ngram": ["ngram.0", "ngram.1"], "f32": "f32", "f16": "f16"}


@pytest.fixture
def shards(folder):
    return make_shards(folder)


@pytest.fixture
def open_store(folder, shards):
    """Return a function that opens a store with an overlay."""

    def open_store(tables=TABLES, **options):
        overlay = folder / "new.overlay"
        return store_of(folder / "*.safetensors", tables=tables, overlay=overlay, **options)

    return open_store


def model_of(shards):
    ngram = np.concatenate([shards["ngram.0"], shards["ngram.1"]])
    return {"ngram": ngram, "f32": shards["f32"].copy(), "f16": shards["f16"].copy()}


def check_rows(store, model):
    for name, expected in model.items():
        order = shuffled(len(expected))
        np.testing.assert_array_equal(store.table(name).lookup(order), expected[order])


def test_updates_are_seen_now_and_after_reopening(folder, shards, open_store):
    model = model_of(shards)
    before = {path: path.read_bytes() for path in folder.glob("*.safetensors")}
    random = np.random.default_rng(0)
    for _ in range(3):
        with open_store() as store:
            check_rows(store, model)
            for name, expected in model.items():
                for _ in range(20):
                    rows = random.integers(0, len(expected), random.integers(1, 30))
                    values = random.integers(0, 100, (len(rows), expected.shape[1]))
                    store.table(name).update(rows, values.astype(expected.dtype))
                    for row, value in zip(rows, values, strict=True):
                        expected[row] = value
                check_rows(store, model)
            store.flush()
            stats = store.stats()
            assert stats.updates.dirty_rows > 0
            assert stats.dram.log_bytes > 0
    assert {path: path.read_bytes() for path in folder.glob("*.safetensors")} == before


def test_resident_tables_have_the_updates(folder, shards, open_store):
    model = model_of(shards)
    with open_store() as store:
        store.table("f32").update([3, 4], np.ones((2, 33), np.float32))
    model["f32"][3:5] = 1
    slow = ta.Checkpoint(folder / "*.safetensors", tables=TABLES, overlay=folder / "new.overlay")
    with ta.TieredStore(slow=slow, fast_bytes="64MiB") as store:
        assert store.table("f32").resident
        check_rows(store, model)
        store.table("f32").update([5], np.full((1, 33), 7, np.float32))
        model["f32"][5] = 7
        check_rows(store, model)
    with open_store() as store:
        check_rows(store, model)


def test_updates_survive_the_end_of_the_process(folder, shards):
    run = run_python(
        """
        import os, signal, sys
        import numpy as np
        import tieralloc as ta
        folder = sys.argv[1]
        files, overlay = folder + "/*.safetensors", folder + "/o"
        slow = ta.Checkpoint(files, tables={"f32": "f32"}, overlay=overlay)
        store = ta.TieredStore(slow=slow, fast_rows=10)
        store.table("f32").update([8], np.full((1, 33), 5, np.float32))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        folder,
    )
    assert run.returncode == -9, run.stderr
    slow = {"tables": {"f32": "f32"}, "overlay": folder / "o"}
    with store_of(folder / "*.safetensors", **slow) as store:
        assert (store.table("f32").lookup([8]) == 5).all()
        np.testing.assert_array_equal(store.table("f32").lookup([9]), shards["f32"][[9]])


def test_overlay_is_locked(open_store):
    with open_store(), pytest.raises(OSError, match="overlay is open in another store") as caught:
        open_store()
    assert caught.value.errno == errno.EWOULDBLOCK


def test_overlay_of_other_tables_is_refused(folder, shards, open_store):
    with open_store() as store:
        store.table("f16").update([0], np.zeros((1, 7), np.float16))
    with pytest.raises(ValueError, match="overlay: not one of these tables, or damaged"):
        open_store(tables={"f32": "f32"})
    other = folder / "new.overlay"
    for content in (b"x" * 100, other.read_bytes()[70:]):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="overlay: not one of these tables, or damaged"):
            open_store()


def test_tables_that_share_bytes_have_no_overlay(open_store):
    tables = {"one": "f32", "two": ["f32"]}
    with pytest.raises(ValueError, match="overlay: tables 'one' and 'two' share bytes of a file"):
        open_store(tables=tables)


def test_interrupted_update_is_lost_as_a_whole(folder, shards, open_store):
    path = folder / "new.overlay"
    with open_store() as store:
        store.table("f16").update([1], np.full((1, 7), 1, np.float16))
        size = store.stats().updates.unsynced_bytes
        store.table("f16").update([2, 3], np.full((2, 7), 2, np.float16))
        end = store.stats().updates.unsynced_bytes
    assert end > size > 0
    with path.open("r+b") as file:  # the log begins with 64 synced bytes
        file.seek(64 + end - 1)
        file.write(b"x")
    with open_store() as store:
        assert (store.table("f16").lookup([1]) == 1).all()
        np.testing.assert_array_equal(store.table("f16").lookup([2, 3]), shards["f16"][2:4])


def test_full_overlay_is_an_error_and_changes_nothing(shards, open_store):
    values = np.ones((700, 33), np.float32)
    frame = 64 + 700 * (8 + 132)  # a little less than a frame takes
    with open_store() as store:
        table = store.table("f32")

        def fill():
            for number in range((64 << 20) // frame + 1):
                table.update(np.arange(700), values * number)
                numbers.append(number)

        numbers = []
        with pytest.raises(OSError, match=r"overlay is full: .* of 67108864 bytes") as caught:
            fill()
        assert caught.value.errno == errno.ENOSPC
        assert (table.lookup(np.arange(700)) == numbers[-1]).all()


def test_other_calls_that_write_are_refused(shards, open_store):
    with open_store() as store:
        calls = {
            "create_table": lambda: store.create_table("new", 10, 4),
            "drop_table": lambda: store.drop_table("f16"),
            "load": lambda: store.table("f16").load(shards["f16"]),
            "resize": lambda: store.table("f16").resize(1000),
        }
        for name, call in calls.items():
            with pytest.raises(OSError, match=f"{name}: a checkpoint is only read") as caught:
                call()
            assert caught.value.errno == errno.EROFS
        check_rows(store, model_of(shards))


def test_overlay_in_a_missing_folder_is_an_error(folder, shards):
    with pytest.raises(FileNotFoundError):
        store_of(folder / "*.safetensors", overlay=folder / "no" / "overlay")
    with pytest.raises(TypeError, match="overlay: expected a path, got 3"):
        store_of(folder / "*.safetensors", overlay=3)
    assert not os.path.exists(folder / "no")
