"""Tables that receive rows while a store serves."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from order_support import order_for, seeds
from support import DTYPES, new_store, numbered_rows, path_of, stored

import tieralloc as ta

ROWS, DIM = 3000, 16


@pytest.fixture
def store(make_store):
    """Two tables of the same size, with rows."""
    store = make_store(fast_rows=500)
    for name in "ab":
        store.create_table(name, ROWS, DIM).load(numbered_rows(ROWS, DIM))
    return store


@pytest.mark.parametrize("name", ["a", "b"])  # copied; at the end of the file
def test_grown_table_keeps_its_rows_and_gets_zeros(store, make_store, name):
    table = store.table(name)
    table.lookup(np.arange(100))
    table.update([5], np.full((1, DIM), 9, np.float32))
    table.resize(2 * ROWS)
    assert table.num_embeddings == len(table) == 2 * ROWS
    store.reset_stats()
    table.lookup(np.arange(100))
    assert store.stats().on_demand_fetches == 0  # still resident
    assert not table.lookup(np.arange(ROWS, 2 * ROWS)).any()
    table.load(np.full((10, DIM), 3, np.float32), start=2 * ROWS - 10)
    table.update([ROWS], np.full((1, DIM), 4, np.float32))
    path = path_of(store)
    store.close()
    opened = make_store.open(path)
    expected = numbered_rows(2 * ROWS, DIM)
    expected[ROWS:] = 0
    expected[5], expected[ROWS], expected[-10:] = 9, 4, 3
    np.testing.assert_array_equal(opened.table(name).lookup(np.arange(2 * ROWS)), expected)
    other = opened.table("b" if name == "a" else "a")
    np.testing.assert_array_equal(other.lookup(np.arange(ROWS)), numbered_rows(ROWS, DIM))
    assert not any(opened.table(each)._core.damaged_pages(n, 0, 40) for n, each in enumerate("ab"))


@settings(max_examples=25)
@given(seeds, st.sampled_from(DTYPES), st.sampled_from([4, 64, 300, 1100]), st.booleans())
def test_grown_arranged_table_serves_the_rows_of_an_array(seed, dtype, dim, in_dram):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 200))
    values = stored(rng.integers(0, 1000, (rows, dim)), dtype)
    budget = {"fast_bytes": "64MiB"} if in_dram else {"fast_rows": int(rng.integers(1, 50))}
    with new_store(**budget) as store:
        table = store.create_table(
            "item", rows, dim, dtype, order=order_for(rng, item=(rows, dim, dtype))
        )
        table.load(values)
        for _ in range(3):
            more = int(rng.integers(0, 150))
            table.resize(rows + more)
            values = np.concatenate([values, np.zeros((more, *values.shape[1:]), values.dtype)])
            rows += more
            some = rng.choice(rows, int(rng.integers(1, rows + 1)), replace=False)
            values[some] = stored(rng.integers(0, 1000, (len(some), dim)), dtype)
            table.update(some, values[some])
            np.testing.assert_array_equal(table.lookup(np.arange(rows)), values)


def test_grown_table_in_memory_serves_its_rows():
    with ta.TieredStore(slow=ta.NumaMemory(0, spill=True), fast_rows=100) as store:
        table = store.create_table("a", ROWS, DIM)
        table.load(numbered_rows(ROWS, DIM))
        table.lookup(np.arange(80))
        table.resize(5 * ROWS)
        np.testing.assert_array_equal(table.lookup(np.arange(ROWS)), numbered_rows(ROWS, DIM))
        assert not table.lookup(np.arange(ROWS, 5 * ROWS)).any()


def test_grown_table_in_dram_leaves_it_when_it_does_not_fit(make_store):
    store = make_store(fast_bytes="16MiB")
    table = store.create_table("a", 1000, DIM)
    table.load(numbered_rows(1000, DIM))
    assert table.resident
    table.resize(1100)
    assert table.resident
    table.resize(200_000)
    assert not table.resident
    np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, DIM))


def test_padding_and_statistics_follow_the_rows(store):
    table = store.table("a")
    with pytest.raises(IndexError):
        table.lookup([ROWS])
    table.resize(ROWS + 1)
    assert store.stats().tables["a"].rows == ROWS + 1
    bags = table.embedding_bag([0, ROWS], [0, 1], padding_idx=-1)
    np.testing.assert_array_equal(bags, np.stack([numbered_rows(1, DIM)[0], np.zeros(DIM)]))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (ROWS - 1, ValueError, "rows: a table does not shrink; expected at least the 3000"),
        (1 << 60, ValueError, "expected at most"),
        (1.5, TypeError, "num_embeddings"),
    ],
)
def test_invalid_number_of_rows_raises(store, rows, error, message):
    with pytest.raises(error, match=message):
        store.table("a").resize(rows)
    assert store.table("a").num_embeddings == ROWS


def test_grown_table_that_must_lie_in_dram_and_does_not_fit_raises(make_store):
    store = make_store(fast_bytes="1MiB")
    table = store.create_table("a", 1000, DIM, resident=True)
    with pytest.raises(ValueError, match="resident: table 'a' takes"):
        table.resize(200_000)
    assert table.resident
    assert len(table) == 1000


def test_resize_of_a_table_read_only_raises(store, make_store):
    path = path_of(store)
    store.close()
    with pytest.raises(io.UnsupportedOperation, match="resize writes"):
        make_store.open(path, "r").table("a").resize(2 * ROWS)


def test_resize_of_a_table_while_recorded_raises(store):
    with store.record(), pytest.raises(ValueError, match="resize: the store is being recorded"):
        store.table("a").resize(2 * ROWS)
    store.table("a").resize(2 * ROWS)
