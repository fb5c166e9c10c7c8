"""Invalid calls raise an error that names the argument, and change nothing."""

import logging
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from support import ends_of, flat, new_store, numbered_rows, pooled

import tieralloc as ta


def counters(store):
    stats = store.stats()
    return (
        *(stats.calls, stats.lookups, stats.hits, stats.on_demand_fetches, stats.evictions),
        *(stats.prefetches_issued, stats.lookup, stats.fast_tier, stats.updates),
    )


@pytest.fixture
def served(make_store):
    """Return a store with two tables, `item` of 10 x 4 and `user` of 5 x 2, and some hits."""
    store = make_store()
    for name, rows, dim in (("item", 10, 4), ("user", 5, 2)):
        store.create_table(name, rows, dim).load(numbered_rows(rows, dim))
    store.table("item").lookup([1, 2])
    return store


ones = np.ones((2, 4), np.float32)

#: The position and the index that a call is refused for.
OUT_OF_RANGE = {
    "lookup": (1, 10, lambda s, t: t.lookup([3, 10, -1])),
    "negative": (1, -1, lambda s, t: t.lookup(np.array([3, -1, 10], np.int32))),
    "int64": (0, (1 << 32) + 3, lambda s, t: t.lookup([(1 << 32) + 3])),
    "smallest": (0, -(1 << 63), lambda s, t: t.lookup([-(1 << 63)])),
    "bag": (2, 77, lambda s, t: t.embedding_bag([3, 4, 77], [0, 2])),
    "batched": (1, 10, lambda s, t: s.embedding_bag([1, 10, 4], [0, 2, 3])),
    "update": (1, 10, lambda s, t: t.update([3, 10], ones)),
    "prefetch": (1, 10, lambda s, t: t.prefetch([3, 10])),
    "batched prefetch": (0, 10, lambda s, t: s.prefetch([10, 0], [0, 1, 2])),
    "pin": (1, 10, lambda s, t: t.pin([3, 10])),
    "unpin": (1, 10, lambda s, t: t.unpin([3, 10])),
}


@pytest.mark.parametrize(("at", "index", "call"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_call_index_out_of_range_raises_and_does_nothing(served, at, index, call):
    table = served.table("item")
    before = counters(served)
    message = f"indices[{at}]: out of range of table 'item'; expected 0 to 9, got {index}"
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        call(served, table)
    assert counters(served) == before
    np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))


def test_batched_bags_index_out_of_range_names_its_table(served):
    with pytest.raises(IndexError, match=r"indices\[2\]: .* table 'user'; expected 0 to 4, got 5"):
        served.embedding_bag([9, 0, 5, 6], [0, 2, 4])


@pytest.mark.parametrize(
    "call",
    [
        lambda store, out: store.table("item").embedding_bag([1, 2, 10], [0, 2], out=out[:, :4]),
        lambda store, out: store.embedding_bag([1, 2, 3, 9], [0, 1, 2, 3, 4], out=out),
    ],
    ids=["table", "store"],
)
def test_embedding_bag_that_raises_leaves_out_unchanged(served, call):
    out = np.full((2, 6), 7, np.float32)
    with pytest.raises(IndexError, match="out of range"):
        call(served, out)
    assert (out == 7).all()


#: By the error: its message, and a call with the store and its table `item`.
REFUSED = {
    TypeError: {
        # Indices and offsets
        "indices: expected int32 or int64, got float64": lambda s, t: t.lookup([1.0]),
        "indices: expected int32 or int64, got bool": lambda s, t: t.lookup([True]),
        "indices: expected int32 or int64, got int16": lambda s, t: t.lookup(np.int16([1])),
        "indices: expected int32 or int64, got uint64": lambda s, t: t.lookup(np.uint64([1])),
        "indices: expected int32 or int64, got <U1": lambda s, t: t.lookup(["1"]),
        "indices: expected int32 or int64, got object": lambda s, t: t.lookup(None),
        "offsets: expected int32 or int64, got float64": lambda s, t: t.embedding_bag([1], [0.0]),
        # Tables
        "tables: expected a sequence of names or tables, got 'item'": lambda s, t: s.embedding_bag(
            [1], [0, 1], tables="item"
        ),
        "tables: expected a sequence of names or tables, got <Table 'item' of 10 x 4 fl": (
            lambda s, t: s.embedding_bag([1], [0, 1], tables=t)
        ),
        "tables: expected names or tables, got 0": lambda s, t: s.prefetch([1], [0, 1], tables=[0]),
        # Pooling
        "'mode' has incorrect type (expected str, got list)": lambda s, t: t.embedding_bag(
            [1], [0], mode=["sum"]
        ),
        "per_sample_weights: expected float32, got float64": lambda s, t: t.embedding_bag(
            [1], [0], per_sample_weights=np.ones(1)
        ),
        "padding_idx: expected int, got float": lambda s, t: t.embedding_bag(
            [1], [0], padding_idx=1.5
        ),
        "padding_idx: expected an entry per table, got 1": lambda s, t: s.embedding_bag(
            [1, 2], [0, 1, 2], padding_idx=1
        ),
        # Buffers for results
        "out: expected an array, a tensor in DRAM or another": lambda s, t: t.lookup(
            [1], out=[0.0] * 4
        ),
        "out: expected float32, got float64": lambda s, t: t.lookup([1], out=np.zeros((1, 4))),
        "out: expected float32, got float32 in foreign byte order": lambda s, t: t.lookup(
            [1], out=np.zeros((1, 4), np.dtype("f4").newbyteorder())
        ),
        # New values
        "values: expected float32 as table 'item' has it, got float64": lambda s, t: t.update(
            [1, 2], ones.astype(np.float64)
        ),
        "values: expected float32 as table 'item' has it, got float32 in foreign byte order": (
            lambda s, t: t.update([1, 2], ones.astype(ones.dtype.newbyteorder()))
        ),
        "start: expected int, got float": lambda s, t: t.load(ones, start=1.5),
        "rows: expected an array or an iterable of arrays, got int": lambda s, t: t.load(5),
    },
    KeyError: {
        "table 'itme': unknown; expected one of item, user": lambda s, t: s.embedding_bag(
            [1], [0, 1], tables=["itme"]
        ),
    },
    ValueError: {
        # Indices and offsets
        "indices: expected one dimension, got shape ()": lambda s, t: t.lookup(1),
        "indices: expected one dimension, got shape (1, 1)": lambda s, t: t.lookup([[1]]),
        "offsets[0]: expected 0, got 1": lambda s, t: t.embedding_bag([1, 2], [1]),
        "offsets[2]: below the one before; expected at least 2, got 1": lambda s, t: (
            t.embedding_bag([1, 2], [0, 2, 1])
        ),
        "offsets[1]: below the one before; expected at least 0, got -1": lambda s, t: (
            t.embedding_bag([1, 2], [0, -1])
        ),
        "offsets[1]: beyond the indices; expected at most 2, got 3": lambda s, t: t.embedding_bag(
            [1, 2], [0, 3]
        ),
        "offsets: expected at least one, the end of the last bag, got none": lambda s, t: (
            t.embedding_bag([], [], include_last_offset=True)
        ),
        "offsets: expected a multiple of 2 tables + 1, got 4": lambda s, t: s.embedding_bag(
            [1, 2, 3], [0, 1, 2, 3]
        ),
        "offsets: expected a multiple of 2 tables, got 3": lambda s, t: s.prefetch(
            [1, 2, 3], [0, 1, 2], include_last_offset=False
        ),
        "tables: expected at least one, got none": lambda s, t: s.embedding_bag(
            [1], [0, 1], tables=[]
        ),
        # Pooling
        "mode: expected one of 'sum', 'mean', 'max', got 'avg'": lambda s, t: t.embedding_bag(
            [1], [0], mode="avg"
        ),
        "mode: expected one of 'sum', 'mean', 'max', got None": lambda s, t: t.embedding_bag(
            [1], [0], mode=None
        ),
        "per_sample_weights: expected mode 'sum' with them, got 'mean'": lambda s, t: (
            t.embedding_bag([1], [0], "mean", per_sample_weights=[1.0])
        ),
        "per_sample_weights: expected shape (2,), one per index, got (1,)": lambda s, t: (
            t.embedding_bag([1, 2], [0], per_sample_weights=[1.0])
        ),
        "padding_idx: not a row of table 'item'; expected -10 to 9, got 10": lambda s, t: (
            t.embedding_bag([1], [0], padding_idx=10)
        ),
        "padding_idx: expected 2 entries, one per table, None for a table without padding, got 1": (
            lambda s, t: s.embedding_bag([1, 2], [0, 1, 2], padding_idx=[1])
        ),
        # Buffers for results
        "out: expected a writable buffer, got a read-only one": lambda s, t: t.lookup(
            [1], out=bytes(16)
        ),
        "out: expected 1 x 4 of 4 bytes, got 15 bytes": lambda s, t: t.lookup(
            [1], out=bytearray(15)
        ),
        "out: expected shape (2, 4), got (4, 2)": lambda s, t: t.lookup(
            [1, 2], out=np.zeros((4, 2), np.float32)
        ),
        "out: expected shape (2, 4), got (2, 2, 2)": lambda s, t: t.lookup(
            [1, 2], out=np.zeros((2, 2, 2), np.float32)
        ),
        "expected dense rows of 4 bytes an element, one behind the other, got strides (4, 8)": (
            lambda s, t: t.lookup([1, 2], out=np.zeros((4, 2), np.float32).T)
        ),
        "one behind the other, got strides (-16, 4)": lambda s, t: t.lookup(
            [1, 2], out=np.zeros((2, 4), np.float32)[::-1]
        ),
        "one behind the other, got strides (8, 4)": lambda s, t: t.lookup(
            [1, 2], out=as_strided(np.zeros(8, np.float32), (2, 4), (8, 4))
        ),
        "out: expected elements at multiples of 4 bytes, got a misaligned buffer": lambda s, t: (
            t.lookup([1], out=memoryview(bytearray(17))[1:])
        ),
        # New values
        "values: expected shape (3, 4) for table 'item', got (2, 4)": lambda s, t: t.update(
            [1, 2, 3], ones
        ),
        "values: expected shape (2, 4) for table 'item', got (2, 3)": lambda s, t: t.update(
            [1, 2], ones[:, :3]
        ),
        "values: expected shape (1, 4) for table 'item', got (4,)": lambda s, t: t.update(
            [1], [1.0, 2.0, 3.0, 4.0]
        ),
        "could not convert string to float": lambda s, t: t.update([1], [["a"] * 4]),
        "values: expected shape (n, 4) for table 'item', got (10, 5)": lambda s, t: t.load(
            np.zeros((10, 5), np.float32)
        ),
        "table 'item': 11 rows from row 0 on do not fit; expected at most 10 rows": lambda s, t: (
            t.load(np.zeros((11, 4), np.float32))
        ),
        "start: not a row of table 'item'; expected 0 to 10, got -1": lambda s, t: t.load(
            ones, start=-1
        ),
        "expected at most 7 pinned rows in the fast tier of 8 slots": lambda s, t: t.pin(
            np.arange(10)
        ),
    },
}
CASES = [(error, *case) for error, cases in REFUSED.items() for case in cases.items()]


@pytest.mark.parametrize(("error", "message", "call"), CASES, ids=[case[1] for case in CASES])
def test_call_invalid_arguments_raises_and_does_nothing(served, call, error, message):
    table = served.table("item")
    before = counters(served)
    with pytest.raises(error) as caught:
        call(served, table)
    assert message in str(caught.value)
    assert counters(served) == before
    np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))


def test_batched_bags_table_of_another_store_raises(served, make_store):
    other = make_store().create_table("item", 10, 4)
    with pytest.raises(ValueError, match="belongs to another store; expected one of item, user"):
        served.embedding_bag([1], [0, 1], tables=[other])


def test_batched_bags_float64_and_narrower_tables_raise(make_store):
    store = make_store()
    store.create_table("narrow", 10, 4)
    store.create_table("wide", 10, 4, "float64")
    with pytest.raises(TypeError, match="float64 and narrower types have no common result"):
        store.embedding_bag([1, 1], [0, 1, 2])


@given(
    rows=st.integers(1, 20),
    bags=st.lists(st.lists(st.integers(-30, 30), max_size=6), max_size=5),
    narrow=st.booleans(),
)
def test_warning_mode_serves_row_0_and_counts(rows, bags, narrow):
    with new_store(fast_rows=4, bounds_check_mode="warning") as store:
        table = store.create_table("item", rows, 4)
        table.load(numbered_rows(rows, 4))
        indices = flat(bags).astype(np.int32 if narrow else np.int64)
        served = [[row if 0 <= row < rows else 0 for row in bag] for bag in bags]
        result = table.embedding_bag(indices, ends_of(bags)[:-1])
        expected = table.embedding_bag(flat(served), ends_of(bags)[:-1])
        np.testing.assert_array_equal(result, expected)
        outside = sum(not 0 <= row < rows for row in indices)
        assert store.stats().lookup.out_of_range == outside


@given(
    rows=st.integers(1, 20),
    bags=st.lists(st.lists(st.integers(-30, 30), max_size=6), max_size=5),
    narrow=st.booleans(),
    mode=st.sampled_from(["sum", "mean", "max"]),
    padded=st.booleans(),
    resident=st.booleans(),
    dtype=st.sampled_from(["float32", "int8"]),
)
def test_default_rows_serves_zeros(rows, bags, narrow, mode, padded, resident, dtype):
    budget = {"fast_bytes": "4MiB"} if resident else {"fast_rows": 4}
    with new_store(bounds_check_mode="default", **budget) as store:
        table = store.create_table("item", rows, 4, dtype)
        table.load(1 + numbered_rows(rows, 4))
        values = table.lookup(np.arange(rows))
        table.lookup([rows, -1, 0])
        store.reset_stats()
        indices = flat(bags).astype(np.int32 if narrow else np.int64)
        padding = 0 if padded else None
        result = table.embedding_bag(indices, ends_of(bags)[:-1], mode, padding_idx=padding)
        whole = np.concatenate([values, np.zeros((1, 4), np.float32)])
        served = [[row if 0 <= row < rows else rows for row in bag] for bag in bags]
        expected = pooled(whole, served, mode, padding_idx=padding)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        outside = sum(not 0 <= row < rows for row in indices)
        assert (
            store.stats().tables[table.name].out_of_range
            == outside
            == store.stats().lookup.out_of_range
        )
        copies = table.lookup(indices)
        np.testing.assert_array_equal(copies, whole[flat(served)] if len(indices) else copies)
        assert store.stats().tables[table.name].out_of_range == 2 * outside


def test_default_rows_weights_and_memory():
    slow = ta.NumaMemory(0, spill=True, promotion="always")
    for slow_tier in (slow, ta.NumaMemory(0, spill=True, promotion="never")):
        with ta.TieredStore(slow=slow_tier, fast_rows=4, bounds_check_mode="default") as store:
            table = store.create_table("item", 10, 4)
            table.load(numbered_rows(10, 4))
            weights = np.array([2, 5, 1], np.float32)
            for _ in range(3):
                result = table.embedding_bag([3, 10, 4], [0], per_sample_weights=weights)
                expected = 2 * numbered_rows(10, 4)[3] + numbered_rows(10, 4)[4]
                np.testing.assert_allclose(result[0], expected, rtol=1e-6)
            assert store.stats().tables[table.name].out_of_range == 3
            table.load(1 + numbered_rows(10, 4))  # row 0 is not the default row
            assert not table.lookup([-5]).any()


def test_default_rows_update_and_pin_raise(make_store, caplog):
    store = make_store(bounds_check_mode="default")
    table = store.create_table("item", 10, 4)
    with caplog.at_level(logging.WARNING, logger="tieralloc"):
        table.lookup([10])
    assert not caplog.records
    for call in (lambda: table.update([10], ones[:1]), lambda: table.pin([10])):
        with pytest.raises(IndexError, match="got 10"):
            call()
    assert table.prefetch([10, 3]) == 1
    store.reset_stats()
    assert store.stats().tables[table.name].out_of_range == 0


def test_warning_mode_logs_once_per_store(make_store, caplog):
    store = make_store(bounds_check_mode="warning")
    table = store.create_table("item", 10, 4)
    with caplog.at_level(logging.WARNING, logger="tieralloc"):
        table.lookup([1])
        assert not caplog.records
        table.lookup([1, 10, -1])
        table.embedding_bag([11], [0])
        store.embedding_bag([12], [0, 1])
    (record,) = caplog.records
    assert "2 indices of a call are out of range" in record.getMessage()
    assert store.stats().lookup.out_of_range == 4


def test_warning_mode_update_and_pin_raise(make_store):
    store = make_store(bounds_check_mode="warning")
    table = store.create_table("item", 10, 4)
    for call in (lambda: table.update([10], ones[:1]), lambda: table.pin([10])):
        with pytest.raises(IndexError, match="got 10"):
            call()
    assert not table.lookup([0]).any()
    assert table.prefetch([10, 3]) == 1
