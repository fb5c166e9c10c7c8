"""Lookups and pooled bags equal the same arithmetic of NumPy, one row at a time."""

import array
import mmap
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import (
    DTYPES,
    POLICIES,
    ends_of,
    flat,
    new_store,
    numbered_rows,
    pooled,
    stored,
    widened,
)

MODES = ("sum", "mean", "max")
INT_TYPES = st.sampled_from([np.int32, np.int64])


def random_rows(rows, dim, dtype, seed):
    return stored(np.random.default_rng(seed).standard_normal((rows, dim)), dtype)


def filled_table(store, name, rows, dim, dtype, seed=0):
    """Create a table of random rows; return it and its rows as float32 or float64."""
    table = store.create_table(name, rows, dim, dtype)
    values = random_rows(rows, dim, dtype, seed)
    table.load(values)
    return table, widened(values, dtype)


# Layouts: the same numbers at other places in memory.


def strided(values):
    spread = np.empty(2 * len(values) + 1, values.dtype)
    spread[1::2] = values
    return spread[1::2]


def backwards(values):
    return values[::-1].copy()[::-1]


def misaligned(values):
    memory = np.empty(values.nbytes + 1, np.uint8)
    shifted = memory[1:].view(values.dtype)
    shifted[...] = values
    return shifted


def swapped(values):
    return values.astype(values.dtype.newbyteorder())


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


INT_LAYOUTS = [np.copy, strided, backwards, misaligned, swapped, read_only, np.ndarray.tolist]
WEIGHT_LAYOUTS = [np.copy, strided, backwards, misaligned, read_only, np.ndarray.tolist]


# Buffers for a result, each with a function that returns it as an array.


def new_array(shape, dtype):
    return np.full(shape, 77, dtype), lambda out: out


def lines_of_wider(shape, dtype):
    return np.full((shape[0], shape[1] + 3), 77, dtype)[:, 1:-2], lambda out: out


def every_other_line(shape, dtype):
    return np.full((2 * shape[0] + 1, shape[1]), 77, dtype)[1::2], lambda out: out


def view_of_memory(shape, dtype):
    memory = memoryview(bytearray(int(np.prod(shape)) * np.dtype(dtype).itemsize))
    return memory, lambda out: np.frombuffer(out, dtype).reshape(shape)


def plain_bytes(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return bytearray(size), lambda out: np.frombuffer(out, dtype).reshape(shape)


def mapped(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    # A mapping cannot be empty; a slice of it can.
    memory = memoryview(mmap.mmap(-1, max(size, 1)))[:size]
    return memory, lambda out: np.frombuffer(out, dtype).reshape(shape)


def flat_numbers(shape, dtype):
    codes = {np.dtype("f4"): "f", np.dtype("f8"): "d", np.dtype("u2"): "H"}
    code = codes.get(np.dtype(dtype))
    if code is None:  # module array has no float16
        return np.zeros(int(np.prod(shape)), dtype), lambda out: out.reshape(shape)
    memory = array.array(code, [0] * int(np.prod(shape)))
    return memory, lambda out: np.array(out, dtype).reshape(shape)


BUFFERS = [
    None,
    new_array,
    lines_of_wider,
    every_other_line,
    view_of_memory,
    plain_bytes,
    mapped,
    flat_numbers,
]


def check_result(call, expected, dtype, buffer, exact):
    """Call with a buffer for the result, or none, and compare the result."""
    kept = np.uint16 if dtype == "bfloat16" else np.dtype(dtype)
    if buffer is None:
        result = call(None)
        assert result.dtype == kept
    else:
        out, read = buffer(expected.shape, kept)
        assert call(out) is out
        result = read(out)
        if isinstance(out, np.ndarray) and out.base is not None:
            untouched = out.base.copy()
            view = np.ndarray(
                out.shape, out.dtype, untouched, out.ctypes.data - out.base.ctypes.data, out.strides
            )
            view[...] = 77
            assert (untouched == 77).all()
    assert result.shape == expected.shape
    if exact:
        np.testing.assert_array_equal(result, stored(expected, dtype))
    else:  # a fused multiply-add rounds once where NumPy rounds twice
        step = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "float64": 1e-13}[dtype]
        np.testing.assert_allclose(widened(result, dtype), expected, rtol=step, atol=step)


def bags_of(rows, min_bags=0, max_bags=6):
    """Return lists of `min_bags` to `max_bags` bags, each a list of rows below `rows`."""
    return st.lists(
        st.lists(st.integers(0, rows - 1), max_size=7), min_size=min_bags, max_size=max_bags
    )


@given(st.data())
def test_embedding_bag_any_arguments_equals_numpy(data):
    draw = data.draw
    dtype = draw(st.sampled_from(DTYPES))
    rows = draw(st.integers(1, 30))
    dim = draw(st.sampled_from([1, 3, 16, 17, 32, 47, 64, 65, 100, 128]))
    bags = draw(bags_of(rows))
    mode = draw(st.sampled_from(MODES))
    padding = draw(st.none() | st.integers(-rows, rows - 1))
    weighted = mode == "sum" and draw(st.booleans())
    whole = draw(st.booleans())
    indices = draw(st.sampled_from(INT_LAYOUTS))(flat(bags).astype(draw(INT_TYPES)))
    offsets = ends_of(bags)[: None if whole else -1].astype(draw(INT_TYPES))
    offsets = draw(st.sampled_from(INT_LAYOUTS))(offsets)
    weights = None
    if weighted:
        kind = np.float64 if dtype == "float64" else np.float32
        weights = np.random.default_rng(1).standard_normal(len(flat(bags))).astype(kind)
        weights = draw(st.sampled_from(WEIGHT_LAYOUTS))(weights)
    buffer = draw(st.sampled_from(BUFFERS))
    options = {"fast_rows": draw(st.integers(1, rows)), "policy": draw(st.sampled_from(POLICIES))}

    with new_store(**options) as store:
        table, values = filled_table(store, "item", rows, dim, dtype)
        shares = None
        if weighted:
            shares = [weights[a:b] for a, b in pairwise(ends_of(bags))]
        row = None if padding is None else padding % rows
        expected = pooled(values, bags, mode, shares, row)
        for _ in range(2):  # first from the slow tier, then with hits
            check_result(
                lambda out: table.embedding_bag(
                    indices,
                    offsets,
                    mode=mode,
                    per_sample_weights=weights,
                    include_last_offset=whole,
                    padding_idx=padding,
                    out=out,
                ),
                expected,
                dtype,
                buffer,
                exact=not weighted,
            )


@given(st.data())
def test_lookup_any_layout_copies_rows_bit_for_bit(data):
    draw = data.draw
    dtype = draw(st.sampled_from(DTYPES))
    rows = draw(st.integers(1, 40))
    dim = draw(st.sampled_from([1, 3, 16, 31, 64, 100]))
    wanted = draw(st.lists(st.integers(0, rows - 1), max_size=50))
    indices = draw(st.sampled_from(INT_LAYOUTS))(np.array(wanted, draw(INT_TYPES)))
    buffer = draw(st.sampled_from(BUFFERS))
    with new_store(fast_rows=draw(st.integers(1, rows))) as store:
        table, values = filled_table(store, "item", rows, dim, dtype)
        expected = values[wanted] if wanted else np.zeros((0, dim))
        for _ in range(2):
            check_result(
                lambda out: table.lookup(indices, out=out), expected, dtype, buffer, exact=True
            )


@given(st.data())
def test_batched_bags_equal_numpy_table_by_table(data):
    draw = data.draw
    kinds = draw(
        st.sampled_from([[d] for d in DTYPES] + [["float32", "float16", "bfloat16"], DTYPES[1:3]])
    )
    shapes = draw(
        st.lists(
            st.tuples(st.integers(1, 20), st.sampled_from([1, 5, 16, 64]), st.sampled_from(kinds)),
            min_size=1,
            max_size=4,
        )
    )
    chosen = draw(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=5))
    everything = draw(st.booleans())
    if everything:
        chosen = list(range(len(shapes)))
    size = draw(st.integers(0, 4))
    bags = [draw(bags_of(shapes[t][0], size, size)) for t in chosen]
    mode = draw(st.sampled_from(MODES))
    whole = draw(st.booleans())
    buffer = draw(st.sampled_from(BUFFERS))
    every_bag = [bag for part in bags for bag in part]
    with new_store(fast_rows=draw(st.integers(8, 40))) as store:
        filled = [filled_table(store, f"t{n}", *shape, seed=n) for n, shape in enumerate(shapes)]
        types = {filled[t][0].dtype for t in chosen}
        dtype = types.pop() if len(types) == 1 else "float32"
        tables = (
            None if everything else [draw(st.sampled_from([filled[t][0], f"t{t}"])) for t in chosen]
        )
        expected = [pooled(filled[t][1], part, mode) for t, part in zip(chosen, bags, strict=True)]
        check_result(
            lambda out: store.embedding_bag(
                flat(every_bag).astype(np.int32),
                ends_of(every_bag)[: None if whole else -1],
                tables=tables,
                mode=mode,
                include_last_offset=whole,
                out=out,
            ),
            np.concatenate(expected, axis=1),
            dtype,
            buffer,
            exact=True,
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("tables", [1, 2])
def test_bags_of_16_bit_rows_widen_into_float32_out(make_store, dtype, tables):
    store = make_store()
    filled = [filled_table(store, f"t{n}", 10, 5, dtype, seed=n) for n in range(tables)]
    out = np.empty((2, 5 * tables), np.float32)
    bags = [[1, 2, 3], [4]] * tables
    store.embedding_bag(flat(bags), ends_of(bags), out=out)
    expected = [pooled(values, bags[:2], "sum") for _, values in filled]
    np.testing.assert_array_equal(out, np.concatenate(expected, axis=1))


def test_weighted_bags_of_float64_tables_take_float64_weights(make_store):
    store = make_store()
    table, values = filled_table(store, "item", 10, 5, "float64")
    weights = np.array([0.1, 0.2, 0.7])
    result = table.embedding_bag([1, 2, 3], [0, 2], per_sample_weights=weights)
    expected = pooled(values, [[1, 2], [3]], "sum", [weights[:2], weights[2:]])
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    with pytest.raises(TypeError, match="per_sample_weights: expected float64, got float32"):
        table.embedding_bag([1], [0], per_sample_weights=np.ones(1, np.float32))


def test_lookup_keeps_all_bit_patterns(make_store):
    every_half = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 64)
    store = make_store(fast_rows=16)
    for dtype, rows in [
        ("float16", every_half.view(np.float16)),
        ("bfloat16", every_half),
        ("float32", every_half.astype(np.uint32).view(np.float32) * np.float32(1)),
    ]:
        table = store.create_table(dtype, len(rows), 64, dtype)
        table.load(rows)
        result = table.lookup(np.arange(len(rows)))
        np.testing.assert_array_equal(result.view(np.uint8), rows.view(np.uint8))


def test_lookup_widens_every_half_exactly(make_store):
    every_half = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 64)
    store = make_store(fast_rows=16)
    for dtype, rows in [("float16", every_half.view(np.float16)), ("bfloat16", every_half)]:
        table = store.create_table(dtype, len(rows), 64, dtype)
        table.load(rows)
        out = np.empty(rows.shape, np.float32)
        table.lookup(np.arange(len(rows)), out=out)
        np.testing.assert_array_equal(out, widened(rows, dtype))


def test_embedding_bag_ignores_indices_after_last_offset(make_store):
    store = make_store()
    table = store.create_table("item", 10, 4)
    table.load(numbered_rows(10, 4))
    result = table.embedding_bag([1, 2, 99], [0, 2], include_last_offset=True)
    np.testing.assert_array_equal(result, [numbered_rows(10, 4)[1:3].sum(axis=0)])
    assert store.stats().lookups == 2


def test_embedding_bag_beyond_internal_limits_equals_numpy(make_store):
    """More rows than a table segment, and more misses than a batch or the deferred bags hold."""
    rows = 20_000
    store = make_store(fast_rows=500)
    table = store.create_table("item", rows, 64)
    values = numbered_rows(rows, 64)
    table.load(values)
    order = np.random.default_rng(0).permutation(rows)
    np.testing.assert_array_equal(table.lookup(order), values[order])
    bags = [order[:9000].tolist(), [], [7], order[9000:].tolist() + order[:50].tolist()]
    result = table.embedding_bag(flat(bags), ends_of(bags), include_last_offset=True)
    np.testing.assert_array_equal(result, pooled(values, bags, "sum"))
    mean = table.embedding_bag(flat(bags), ends_of(bags)[:-1], mode="mean")
    np.testing.assert_array_equal(mean, pooled(values, bags, "mean"))
