"""Tables dropped while a store serves: their space, their names, and the calls that they refuse."""

import io
import os
import threading

import numpy as np
import pytest
from support import numbered_rows, path_of

import tieralloc as ta

ROWS, DIM = 3000, 16


def blocks_of(path):
    return os.stat(path).st_blocks * 512


@pytest.fixture
def store(make_store):
    """Three tables of the same size, with rows."""
    store = make_store(fast_rows=500)
    for name in "abc":
        store.create_table(name, ROWS, DIM).load(numbered_rows(ROWS, DIM))
    return store


def test_drop_table_refuses_its_calls_and_keeps_others(store):
    dropped, other = store.table("b"), store.table("c")
    other.lookup(np.arange(100))
    store.drop_table("b")
    assert list(store.tables) == ["a", "c"]
    for call in (
        lambda: dropped.lookup([0]),
        lambda: dropped.embedding_bag([0], [0]),
        lambda: dropped.update([0], numbered_rows(1, DIM)),
        lambda: dropped.load(numbered_rows(ROWS, DIM)),
        lambda: dropped.prefetch([0]),
        lambda: dropped.pin([0]),
        lambda: dropped.unpin([0]),
        lambda: dropped.reserve(fast_bytes=None),
        lambda: dropped.resident,
        lambda: store._core.drop_table(dropped.position),
    ):
        with pytest.raises(ValueError, match="table 'b' was dropped; expected a table of the"):
            call()
    store.reset_stats()
    assert other.position == 2
    np.testing.assert_array_equal(other.lookup(np.arange(100)), numbered_rows(100, DIM))
    assert store.stats().on_demand_fetches == 0  # still resident
    bags = store.embedding_bag([1, 2], [0, 1, 2])
    np.testing.assert_array_equal(bags[0], np.concatenate(numbered_rows(3, DIM)[[1, 2]]))


def test_drop_table_unknown_name_raises(store):
    with pytest.raises(KeyError, match="table 'x': unknown"):
        store.drop_table("x")


def test_drop_table_gives_space_back_and_takes_it_again(store):
    path = path_of(store)
    size, blocks = os.stat(path).st_size, blocks_of(path)
    store.drop_table("b")
    assert os.stat(path).st_size == size
    assert blocks_of(path) < blocks - ROWS * DIM * 4 * 0.9
    table = store.create_table("b", ROWS, DIM)
    assert os.stat(path).st_size == size
    assert not table.lookup(np.arange(ROWS)).any()
    store.create_table("d", ROWS, DIM)
    assert os.stat(path).st_size > size


def test_drop_table_last_one_shortens_the_file(store):
    path = path_of(store)
    size = os.stat(path).st_size
    store.drop_table("c")
    assert os.stat(path).st_size <= size - ROWS * DIM * 4
    store.drop_table("a")
    store.drop_table("b")
    assert os.stat(path).st_size == 2 << 20


def test_table_in_a_gap_keeps_the_order_of_creation(store, make_store):
    path = path_of(store)
    store.drop_table("a")
    values = np.full((1000, 8), 7, np.float32)
    store.create_table("small", 1000, 8).load(values)
    store.table("c").update([5], np.full((1, DIM), 9, np.float32))
    store.table("small").update([5], np.full((1, 8), 8, np.float32))
    store.close()
    opened = make_store.open(path)
    assert list(opened.tables) == ["b", "c", "small"]
    np.testing.assert_array_equal(opened.table("b").lookup([3]), numbered_rows(4, DIM)[3:])
    assert (opened.table("c").lookup([5]) == 9).all()
    assert opened.table("small").lookup([4, 5])[:, 0].tolist() == [7, 8]


def test_drop_table_format_without_reuse_stays(store):
    def version():
        with open(path_of(store), "rb") as file:
            return int.from_bytes(file.read(12)[8:], "little")

    assert version() == 2
    store.drop_table("a")
    assert version() == 2
    store.create_table("small", 1000, 8)
    assert version() == 4
    store.drop_table("small")
    assert version() == 2


def test_drop_table_read_only_raises(store, make_store):
    path = path_of(store)
    store.close()
    with pytest.raises(io.UnsupportedOperation, match="drop_table writes"):
        make_store.open(path, "r").drop_table("a")


def test_drop_table_while_recorded_raises(store):
    with store.record() as recorder:
        store.table("c").lookup([1])
        with pytest.raises(ValueError, match="drop_table: the store is being recorded"):
            store.drop_table("b")
    store.drop_table("b")
    assert len(recorder.to_trace("t").accesses()) == 1


def test_drop_table_memory_frees_rows():
    with ta.TieredStore(slow=ta.NumaMemory(0, spill=True), fast_rows=100) as store:
        store.create_table("a", ROWS, DIM)
        other = store.create_table("b", ROWS, DIM)
        other.load(numbered_rows(ROWS, DIM))
        size = store.stats().slow_tier.bytes
        store.drop_table("a")
        assert store.stats().slow_tier.bytes < size
        np.testing.assert_array_equal(other.lookup([7]), numbered_rows(8, DIM)[7:])
        store.create_table("a", ROWS, DIM)
        assert not store.table("a").lookup([7]).any()


def test_warm_rows_survive_a_drop(tmp_path):
    path = tmp_path / "new.tier"
    options = {"fast_rows": 100}
    with ta.TieredStore(path, mode="w", **options) as store:
        for name in "abc":
            store.create_table(name, ROWS, DIM).load(numbered_rows(ROWS, DIM))
        store.table("c").lookup(np.arange(50))
        store.drop_table("a")
        store.table("b").lookup(np.arange(20))
    with ta.TieredStore(path, **options) as store:
        assert store._restart.wait(30)
        store.table("c").lookup(np.arange(50))
        store.table("b").lookup(np.arange(20))
        assert store.stats().on_demand_fetches == 0


def test_threads_look_up_beside_drops(store):
    table, failures = store.table("a"), []
    stopped = threading.Event()

    def look_up(seed):
        random = np.random.default_rng(seed)
        while not stopped.is_set():
            rows = random.integers(0, ROWS, 50)
            if not np.array_equal(table.lookup(rows), numbered_rows(ROWS, DIM)[rows]):
                failures.append(rows)

    threads = [threading.Thread(target=look_up, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for number in range(15):
        store.drop_table("b")
        store.create_table("b", ROWS + number % 2, DIM).load(numbered_rows(ROWS + number % 2, DIM))
    stopped.set()
    for thread in threads:
        thread.join()
    assert not failures
