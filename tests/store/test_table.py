"""Load, lookup and update of tables."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DTYPES, new_store, numbered_rows, stored, widened


def parts_of(values, cuts):
    edges = [0, *sorted(cuts), len(values)]
    return [values[a:b] for a, b in pairwise(edges)]


@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 100),
    dim=st.sampled_from([1, 7, 16, 33, 500]),
    data=st.data(),
)
def test_load_any_source_is_looked_up(dtype, rows, dim, data):
    with new_store(fast_rows=8) as store:
        table = store.create_table("item", rows, dim, dtype)
        assert not table.lookup(np.arange(rows)).any()
        values = numbered_rows(rows, dim, dtype)
        cuts = data.draw(st.lists(st.integers(0, rows), max_size=4))
        way = data.draw(st.sampled_from(["whole", "parts", "generator", "spread", "from start"]))
        if way == "whole":
            table.load(values)
        elif way == "parts":
            table.load(parts_of(values, cuts))
        elif way == "generator":
            table.load(part for part in parts_of(values, cuts))
        elif way == "spread":
            table.load(np.repeat(values, 2, axis=0)[::2])
        else:
            first = data.draw(st.integers(0, rows))
            table.load(values[first:], start=first)
            table.load(iter([values[:first]]), start=0)
        np.testing.assert_array_equal(table.lookup(np.arange(rows)), values)


def test_load_replaces_resident_and_logged_rows(make_store):
    store = make_store(fast_rows=8)
    table = store.create_table("item", 100, 4)
    table.lookup([1, 2, 3])
    table.update([3, 4], np.full((2, 4), 9, np.float32))
    table.load(numbered_rows(10, 4), start=0)
    np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))


def test_load_too_few_rows_writes_them_and_raises(make_store):
    table = make_store().create_table("item", 100, 4)
    with pytest.raises(ValueError, match="rows: too few for table 'item'; expected 100, got 30"):
        table.load(iter([numbered_rows(10, 4), numbered_rows(20, 4, first=10)]))
    np.testing.assert_array_equal(table.lookup(np.arange(30)), numbered_rows(30, 4))


def test_load_failing_source_writes_earlier_rows(make_store):
    def source():
        yield numbered_rows(10, 4)
        raise OSError("the source is gone")

    table = make_store().create_table("item", 100, 4)
    with pytest.raises(OSError, match="the source is gone"):
        table.load(source())
    np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))


def test_load_of_iterable_is_streamed(make_store):
    rows, dim = 64 * 1024, 64  # 16 MiB in all
    table = make_store().create_table("item", rows, dim)
    tracemalloc.start()
    table.load(numbered_rows(1024, dim, first=n) for n in range(0, rows, 1024))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    np.testing.assert_array_equal(table.lookup([rows - 1]), numbered_rows(1, dim, first=rows - 1))


def test_bfloat16_table_rounds_float32_to_even(make_store):
    table = make_store().create_table("item", 8, 1, "bfloat16")
    values = np.array(
        [1.0, 1.00390625, 1.01171875, -1.00390625, 3.4e38, np.inf, np.nan, 1e-40], np.float32
    )
    table.load(values[:, None])
    got = widened(table.lookup(np.arange(8)), "bfloat16")[:, 0]
    np.testing.assert_array_equal(
        got, np.array([1, 1, 1.015625, -1, np.inf, np.inf, np.nan, 2.0**-133], np.float32)
    )
    table.update([0], [[1.01171875]])
    assert widened(table.lookup([0]), "bfloat16")[0, 0] == 1.015625
    table.update([0], np.array([[0x4049]], np.uint16))  # bits are unchanged
    assert table.lookup([0])[0, 0] == 0x4049


@pytest.mark.parametrize("dtype", DTYPES)
def test_update_with_lists_converts_to_table_dtype(make_store, dtype):
    table = make_store().create_table("item", 10, 3, dtype)
    table.update([1, 2], [[1, 2, 3], (0.5, 0.25, -1)])
    expected = stored([[1, 2, 3], [0.5, 0.25, -1]], dtype)
    np.testing.assert_array_equal(table.lookup([1, 2]), expected)


def test_table_has_attributes_and_repr(make_store):
    store = make_store()
    table = store.create_table("item", 10, 3, np.float16)
    assert repr(table) == "<Table 'item' of 10 x 3 float16>"
    assert len(table) == 10
    assert (table.store, table.position) == (store, 0)
    assert store.table("item") is table
    assert store.tables == {"item": table}
    assert repr(store) == "<TieredStore tables=['item'] policy='s3fifo'>"
    store.tables.clear()  # a copy
    assert list(store.tables) == ["item"]


def test_table_unknown_name_raises_with_known_names(make_store):
    store = make_store()
    with pytest.raises(KeyError, match="table 'item': unknown; expected one of the tables made by"):
        store.table("item")
    store.create_table("user", 10, 3)
    with pytest.raises(KeyError, match="table 'item': unknown; expected one of user"):
        store.table("item")
