"""Invalid calls raise an error that names the argument, and change nothing."""

import logging
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ends_of, flat, new_store, numbered_rows


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

OUT_OF_RANGE = {
    "lookup": (lambda s, t: t.lookup([3, 10, -1]), "index 10 (at position 1)"),
    "negative": (
        lambda s, t: t.lookup(np.array([3, -1, 10], np.int32)),
        "index -1 (at position 1)",
    ),
    "int64": (lambda s, t: t.lookup([(1 << 32) + 3]), "index 4294967299 (at position 0)"),
    "smallest": (lambda s, t: t.lookup([-(1 << 63)]), "index -9223372036854775808 (at position 0)"),
    "bag": (lambda s, t: t.embedding_bag([3, 4, 77], [0, 2]), "index 77 (at position 2)"),
    "batched": (lambda s, t: s.embedding_bag([1, 10, 4], [0, 2, 3]), "index 10 (at position 1)"),
    "update": (lambda s, t: t.update([3, 10], ones), "index 10 (at position 1)"),
    "prefetch": (lambda s, t: t.prefetch([3, 10]), "index 10 (at position 1)"),
    "batched prefetch": (lambda s, t: s.prefetch([10, 0], [0, 1, 2]), "index 10 (at position 0)"),
    "pin": (lambda s, t: t.pin([3, 10]), "index 10 (at position 1)"),
    "unpin": (lambda s, t: t.unpin([3, 10]), "index 10 (at position 1)"),
}


@pytest.mark.parametrize(("call", "offender"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_call_index_out_of_range_raises_and_does_nothing(served, call, offender):
    table = served.table("item")
    before = counters(served)
    message = f"{offender} is out of range for table 'item' of 10 rows"
    with pytest.raises(IndexError, match=re.escape(message)):
        call(served, table)
    assert counters(served) == before
    np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))


def test_batched_bags_index_out_of_range_names_its_table(served):
    with pytest.raises(IndexError, match=r"index 5 \(at position 2\) .* table 'user' of 5 rows"):
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


REFUSED = {
    # Indices
    "float indices": (
        lambda s, t: t.lookup([1.0]),
        TypeError,
        "indices are float64, expected int3",
    ),
    "bool indices": (
        lambda s, t: t.lookup([True]),
        TypeError,
        "indices are bool, expected int32 o",
    ),
    "int16": (
        lambda s, t: t.lookup(np.int16([1])),
        TypeError,
        "indices are int16, expected int32 ",
    ),
    "uint64": (
        lambda s, t: t.lookup(np.uint64([1])),
        TypeError,
        "indices are uint64, expected int",
    ),
    "strings": (
        lambda s, t: t.lookup(["1"]),
        TypeError,
        "indices are <U1, expected int32 or int64",
    ),
    "None": (lambda s, t: t.lookup(None), TypeError, "indices are object, expected int32 or int64"),
    "one number": (
        lambda s, t: t.lookup(1),
        ValueError,
        "indices have shape (), expected one dimen",
    ),
    "matrix": (
        lambda s, t: t.lookup([[1]]),
        ValueError,
        "indices have shape (1, 1), expected one d",
    ),
    # Offsets
    "float offsets": (
        lambda s, t: t.embedding_bag([1], [0.0]),
        TypeError,
        "offsets are float64, expected int32 or int64",
    ),
    "first offset": (
        lambda s, t: t.embedding_bag([1, 2], [1]),
        ValueError,
        "offsets[0] must be 0, got 1",
    ),
    "descending": (
        lambda s, t: t.embedding_bag([1, 2], [0, 2, 1]),
        ValueError,
        "offsets must ascend, but offsets[2] is 1 after 2",
    ),
    "negative offset": (
        lambda s, t: t.embedding_bag([1, 2], [0, -1]),
        ValueError,
        "offsets must ascend, but offsets[1] is -1 after 0",
    ),
    "beyond": (
        lambda s, t: t.embedding_bag([1, 2], [0, 3]),
        ValueError,
        "offsets[1] is 3, beyond the 2 indices",
    ),
    "no end": (
        lambda s, t: t.embedding_bag([], [], include_last_offset=True),
        ValueError,
        "expected at least one offset, the end of the last bag, got none",
    ),
    "uneven": (
        lambda s, t: s.embedding_bag([1, 2, 3], [0, 1, 2, 3]),
        ValueError,
        "3 bags do not share out among 2 tables; expected tables x bags + 1 offsets, got 4",
    ),
    "uneven prefetch": (
        lambda s, t: s.prefetch([1, 2, 3], [0, 1, 2], include_last_offset=False),
        ValueError,
        "3 bags do not share out among 2 tables; expected tables x bags offsets, got 3",
    ),
    # Tables
    "one name": (
        lambda s, t: s.embedding_bag([1], [0, 1], tables="item"),
        TypeError,
        "tables: expected a sequence of names or tables, got 'item'",
    ),
    "one table": (
        lambda s, t: s.embedding_bag([1], [0, 1], tables=t),
        TypeError,
        "tables: expected a sequence of names or tables, got <Table 'item' of 10 x 4 float32>",
    ),
    "number": (
        lambda s, t: s.prefetch([1], [0, 1], tables=[0]),
        TypeError,
        "tables: expected names or tables, got 0",
    ),
    "no tables": (
        lambda s, t: s.embedding_bag([1], [0, 1], tables=[]),
        ValueError,
        "expected at least one table, got none",
    ),
    "unknown": (
        lambda s, t: s.embedding_bag([1], [0, 1], tables=["itme"]),
        KeyError,
        "table 'itme': unknown; expected one of item, user",
    ),
    # Pooling
    "mode": (
        lambda s, t: t.embedding_bag([1], [0], mode="avg"),
        ValueError,
        "mode is 'avg', expected one of 'sum', 'mean', 'max'",
    ),
    "mode None": (
        lambda s, t: t.embedding_bag([1], [0], mode=None),
        ValueError,
        "mode is None, expected one of 'sum', 'mean', 'max'",
    ),
    "mode list": (
        lambda s, t: t.embedding_bag([1], [0], mode=["sum"]),
        TypeError,
        "'mode' has incorrect type (expected str, got list)",
    ),
    "weights of a mean": (
        lambda s, t: t.embedding_bag([1], [0], "mean", per_sample_weights=[1.0]),
        ValueError,
        "per_sample_weights go with mode 'sum' only, got mode 'mean'",
    ),
    "weights' type": (
        lambda s, t: t.embedding_bag([1], [0], per_sample_weights=np.ones(1)),
        TypeError,
        "per_sample_weights are float64, expected float32",
    ),
    "too few weights": (
        lambda s, t: t.embedding_bag([1, 2], [0], per_sample_weights=[1.0]),
        ValueError,
        "per_sample_weights have shape (1,), expected (2,): one an index",
    ),
    "padding_idx": (
        lambda s, t: t.embedding_bag([1], [0], padding_idx=10),
        ValueError,
        "padding_idx: not a row of table 'item'; expected -10 to 9, got 10",
    ),
    "padding_idx float": (
        lambda s, t: t.embedding_bag([1], [0], padding_idx=1.5),
        TypeError,
        "padding_idx: expected int, got float",
    ),
    "one padding_idx for two tables": (
        lambda s, t: s.embedding_bag([1, 2], [0, 1, 2], padding_idx=1),
        TypeError,
        "padding_idx: expected an entry per table, got 1",
    ),
    "padding_idx for one of two": (
        lambda s, t: s.embedding_bag([1, 2], [0, 1, 2], padding_idx=[1]),
        ValueError,
        "padding_idx: expected 2 entries, one per table, None for a table without padding, got 1",
    ),
    # Buffers for results
    "out list": (
        lambda s, t: t.lookup([1], out=[0.0] * 4),
        TypeError,
        "out is of type list, expected an array or another writable buffer",
    ),
    "out bytes": (
        lambda s, t: t.lookup([1], out=bytes(16)),
        ValueError,
        "out is read-only, expected a writable buffer",
    ),
    "out read-only": (
        lambda s, t: t.lookup([1], out=np.broadcast_to(np.float32(0), (1, 4))),
        ValueError,
        "out is read-only, expected a writable buffer",
    ),
    "out short": (
        lambda s, t: t.lookup([1], out=bytearray(15)),
        ValueError,
        "out has 15 bytes, expected 1 x 4 of 4",
    ),
    "out dtype": (
        lambda s, t: t.lookup([1], out=np.zeros((1, 4))),
        TypeError,
        "out is of float64, expected float32",
    ),
    "out foreign": (
        lambda s, t: t.lookup([1], out=np.zeros((1, 4), np.dtype("f4").newbyteorder())),
        TypeError,
        "out is of float32 in foreign byte order, expected float32",
    ),
    "out shape": (
        lambda s, t: t.lookup([1, 2], out=np.zeros((4, 2), np.float32)),
        ValueError,
        "out has shape (4, 2), expected (2, 4)",
    ),
    "out of 3 dimensions": (
        lambda s, t: t.lookup([1, 2], out=np.zeros((2, 2, 2), np.float32)),
        ValueError,
        "out has shape (2, 2, 2), expected (2, 4)",
    ),
    "out by columns": (
        lambda s, t: t.lookup([1, 2], out=np.zeros((4, 2), np.float32).T),
        ValueError,
        "out has strides (4, 8), expected dense rows of 4 bytes an element",
    ),
    "out reversed": (
        lambda s, t: t.lookup([1, 2], out=np.zeros((2, 4), np.float32)[::-1]),
        ValueError,
        "out has strides (-16, 4), expected dense rows",
    ),
    "out overlapping": (
        lambda s, t: t.lookup(
            [1, 2], out=np.lib.stride_tricks.as_strided(np.zeros(8, np.float32), (2, 4), (8, 4))
        ),
        ValueError,
        "out has strides (8, 4), expected dense rows",
    ),
    "out misaligned": (
        lambda s, t: t.lookup([1], out=memoryview(bytearray(17))[1:]),
        ValueError,
        "out begins between two multiples of 4 bytes, expected aligned elements",
    ),
    # New values
    "values' type": (
        lambda s, t: t.update([1, 2], ones.astype(np.float64)),
        TypeError,
        "values are float64, expected float32 as table 'item' has it",
    ),
    "values foreign": (
        lambda s, t: t.update([1, 2], ones.astype(ones.dtype.newbyteorder())),
        TypeError,
        "values are float32 in foreign byte order, expected float32 as table 'item' has it",
    ),
    "too few values": (
        lambda s, t: t.update([1, 2, 3], ones),
        ValueError,
        "values have shape (2, 4), expected (3, 4) for table 'item'",
    ),
    "narrow values": (
        lambda s, t: t.update([1, 2], ones[:, :3]),
        ValueError,
        "values have shape (2, 3), expected (2, 4) for table 'item'",
    ),
    "one value": (
        lambda s, t: t.update([1], [1.0, 2.0, 3.0, 4.0]),
        ValueError,
        "values have shape (4,), expected (1, 4) for table 'item'",
    ),
    "strings as values": (
        lambda s, t: t.update([1], [["a"] * 4]),
        ValueError,
        "could not convert string to float",
    ),
    "load float64": (
        lambda s, t: t.load(np.zeros((10, 4))),
        TypeError,
        "values are float64, expected float32 as table 'item' has it",
    ),
    "load too wide": (
        lambda s, t: t.load(np.zeros((10, 5), np.float32)),
        ValueError,
        "values have shape (10, 5), expected (n, 4) for table 'item'",
    ),
    "load too many": (
        lambda s, t: t.load(np.zeros((11, 4), np.float32)),
        ValueError,
        "table 'item': 11 rows from row 0 on do not fit; expected at most 10 rows",
    ),
    "load past the end": (
        lambda s, t: t.load(ones, start=9),
        ValueError,
        "table 'item': 2 rows from row 9 on do not fit; expected at most 10 rows",
    ),
    "load before the beginning": (
        lambda s, t: t.load(ones, start=-1),
        ValueError,
        "start: not a row of table 'item'; expected 0 to 10, got -1",
    ),
    "load between rows": (
        lambda s, t: t.load(ones, start=1.5),
        TypeError,
        "start: expected int, got float",
    ),
    "load a number": (
        lambda s, t: t.load(5),
        TypeError,
        "rows: expected an array or an iterable of arrays, got int",
    ),
    # Pins
    "too many pins": (
        lambda s, t: t.pin(np.arange(10)),
        ValueError,
        "expected at most 7 pinned rows in the fast tier of 8 slots",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
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
    with pytest.raises(TypeError, match="float64 and of narrower types have no common result"):
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
        with pytest.raises(IndexError, match="index 10"):
            call()
    assert not table.lookup([0]).any()
    assert table.prefetch([10, 3]) == 1
