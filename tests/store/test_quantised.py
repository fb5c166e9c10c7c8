"""Quantised rows: equal to FBGEMM's and torch's operators, byte for byte and bit for bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import new_store, path_of

import tieralloc as ta
from tieralloc._bindings import kernel_isa

BITS = {"int8": 8, "int4": 4}
MODES = ("sum", "mean", "max")


def random_floats(rows, dim, seed):
    """Return rows of many magnitudes, some of them constant, some far from zero."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, dim)) * 10.0 ** generator.uniform(-9, 4, (rows, 1))
    values[generator.random(rows) < 0.2] = 3.3
    values[generator.random(rows) < 0.2] += 100
    return values.astype(np.float32)


def codes_of(raw, dim, dtype):
    """Return the codes of raw rows."""
    codes = raw[:, 4:]
    if dtype == "int4":
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(raw), -1)
    return codes[:, :dim]


def dequantised(raw, dim, dtype):
    """Return the values of raw rows as float64."""
    affine = raw[:, :4].copy().view(np.float16).astype(np.float64)
    return affine[:, :1] * codes_of(raw, dim, dtype) + affine[:, 1:]


@st.composite
def requests(draw, rows):
    """Return indices, offsets with the last end, and weights."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    indices = generator.integers(0, rows, sum(lengths))
    offsets = np.cumsum([0, *lengths])
    return indices, offsets, generator.standard_normal(len(indices)).astype(np.float32)


SHAPES = {
    "dtype": st.sampled_from(list(BITS)),
    "rows": st.integers(1, 40),
    "dim": st.integers(1, 40).map(lambda n: 4 * n),
    "seed": st.integers(0, 1 << 32),
}


def fbgemm_module(raw, dim, dtype, mode, output):
    """Return FBGEMM's operator on rows as they are."""
    ops = pytest.importorskip("fbgemm_gpu.split_table_batched_embeddings_ops_inference")
    import torch
    from fbgemm_gpu.split_embedding_configs import SparseType

    kind = SparseType.from_dtype(torch.uint8) if dtype == "int8" else SparseType.INT4
    weights = torch.from_numpy(raw)
    return ops.IntNBitTableBatchedEmbeddingBagsCodegen(
        [("t", len(raw), dim, kind, ops.EmbeddingLocation.HOST)],
        device="cpu",
        output_dtype=SparseType.FP32 if output == np.float32 else SparseType.FP16,
        weight_lists=[(weights[:, 4:].contiguous(), weights[:, :4].contiguous())],
        row_alignment=1,
        pooling_mode=ops.PoolingMode.SUM if mode == "sum" else ops.PoolingMode.MEAN,
    )


def assert_as_fused(ours, theirs):
    """Compare results, exactly where the processor fuses multiplication and addition."""
    if kernel_isa() == "baseline":
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    else:
        np.testing.assert_array_equal(ours, theirs)


@given(**SHAPES)
def test_loaded_floats_are_quantised_as_fbgemm_does(dtype, rows, dim, seed):
    pytest.importorskip("fbgemm_gpu")
    import torch

    values = random_floats(rows, dim, seed)
    quantise = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf
    expected = np.roll(quantise(torch.from_numpy(values), BITS[dtype]).numpy(), 4, axis=1)
    with new_store(fast_rows=4) as store:
        table = store.create_table("t", rows, dim, dtype)
        table.load(values)
        np.testing.assert_array_equal(table.lookup(np.arange(rows), raw=True), expected)
        assert table.row_bytes == expected.shape[1]


@given(
    **SHAPES,
    mode=st.sampled_from(["sum", "mean"]),
    output=st.sampled_from([np.float32, np.float16]),
    weighted=st.booleans(),
    data=st.data(),
)
def test_bags_equal_those_of_fbgemm(dtype, rows, dim, seed, mode, output, weighted, data):
    indices, offsets, weights = data.draw(requests(rows))
    weights = weights if weighted and mode == "sum" else None
    with new_store(fast_rows=4) as store:
        table = store.create_table("t", rows, dim, dtype)
        table.load(random_floats(rows, dim, seed))
        module = fbgemm_module(table.lookup(np.arange(rows), raw=True), dim, dtype, mode, output)
        import torch

        tensors = [torch.from_numpy(each.astype(np.int32)) for each in (indices, offsets)]
        theirs = module(*tensors, None if weights is None else torch.from_numpy(weights))
        out = np.empty((len(offsets) - 1, dim), output)
        table.embedding_bag(indices, offsets, mode, weights, include_last_offset=True, out=out)
    assert_as_fused(out, theirs.numpy())


@given(**SHAPES, weighted=st.booleans(), data=st.data())
def test_bags_equal_those_of_torch(dtype, rows, dim, seed, weighted, data):
    torch = pytest.importorskip("torch")
    indices, offsets, weights = data.draw(requests(rows))
    weights = weights if weighted else None
    with new_store(fast_rows=4) as store:
        table = store.create_table("t", rows, dim, dtype)
        table.load(random_floats(rows, dim, seed))
        raw = table.lookup(np.arange(rows), raw=True)
        ours = table.embedding_bag(indices, offsets, "sum", weights, include_last_offset=True)
    affine = raw[:, :4]
    if dtype == "int8":  # torch has float32 scales and biases
        affine = affine.copy().view(np.float16).astype(np.float32).view(np.uint8)
    packed = torch.from_numpy(np.concatenate([raw[:, 4:], affine], axis=1))
    operators = torch.ops.quantized
    operator = {
        "int8": operators.embedding_bag_byte_rowwise_offsets,
        "int4": operators.embedding_bag_4bit_rowwise_offsets,
    }[dtype]
    theirs = operator(
        packed,
        torch.from_numpy(indices),
        torch.from_numpy(offsets),
        per_sample_weights=None if weights is None else torch.from_numpy(weights),
        include_last_offset=True,
    )
    assert_as_fused(ours, theirs.numpy())


@given(
    dtype=SHAPES["dtype"],
    rows=SHAPES["rows"],
    dim=st.integers(1, 140),
    seed=SHAPES["seed"],
    mode=st.sampled_from(MODES),
    capacity=st.integers(1, 40),
    data=st.data(),
)
def test_any_bags_equal_the_pooled_values(dtype, rows, dim, seed, mode, capacity, data):
    indices, offsets, _ = data.draw(requests(rows))
    with new_store(fast_rows=capacity) as store:
        table = store.create_table("t", rows, dim, dtype)
        table.load(random_floats(rows, dim, seed))
        raw = table.lookup(np.arange(rows), raw=True)
        values = dequantised(raw, dim, dtype)
        np.testing.assert_allclose(table.lookup(indices), values[indices], rtol=1e-6)
        half = np.empty((len(indices), dim), np.float16)
        np.testing.assert_allclose(
            table.lookup(indices, half), values[indices], rtol=1e-3, atol=1e-7
        )
        pooled = table.embedding_bag(indices, offsets, mode, include_last_offset=True)
    pool = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    for bag, (begin, end) in enumerate(itertools.pairwise(offsets)):
        expected = pool(values[indices[begin:end]], axis=0) if end > begin else np.zeros(dim)
        scale = np.abs(values[indices[begin:end]]).sum(axis=0) if end > begin else 0
        assert (np.abs(pooled[bag] - expected) <= 1e-5 * scale + 1e-9).all()


@given(dtype=SHAPES["dtype"], dim=st.integers(1, 200), seed=SHAPES["seed"])
def test_error_of_a_value_is_within_a_step(dtype, dim, seed):
    values = random_floats(20, dim, seed)
    with new_store(fast_rows=4) as store:
        table = store.create_table("t", 20, dim, dtype)
        table.load(values)
        raw = table.lookup(np.arange(20), raw=True)
        result = table.lookup(np.arange(20))
    scales = raw[:, :2].copy().view(np.float16).astype(np.float32)
    # Scale and bias are rounded to 11 bits.
    slack = np.abs(values).max(axis=1, keepdims=True) * 2.0**-10 + 2.0**-14
    assert (np.abs(result - values) <= np.abs(scales) + slack).all()


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64])
def test_load_and_update_take_any_floats(make_store, dtype, source):
    values = np.random.default_rng(1).standard_normal((50, 20)).astype(source)
    store = make_store()
    loaded, updated = (store.create_table(name, 50, 20, dtype) for name in ("a", "b"))
    loaded.load(iter(np.split(values, 5)))
    updated.update(np.arange(50), values)
    rows = np.arange(50)
    np.testing.assert_array_equal(loaded.lookup(rows, raw=True), updated.lookup(rows, raw=True))
    exact = store.create_table("c", 50, 20, dtype)
    exact.load([values.astype(np.float32).tolist()])
    np.testing.assert_array_equal(loaded.lookup(rows, raw=True), exact.lookup(rows, raw=True))


@pytest.mark.parametrize("dtype", BITS)
def test_load_of_float16_in_parts_fills_the_table(make_store, dtype, monkeypatch):
    monkeypatch.setattr("tieralloc._common.values._PART_BYTES", 1000)
    values = np.random.default_rng(1).standard_normal((500, 20)).astype(np.float16)
    table = make_store().create_table("t", 500, 20, dtype)
    table.load(values)
    np.testing.assert_allclose(table.lookup(np.arange(500)), values, atol=0.6)


@pytest.mark.parametrize("dtype", BITS)
def test_raw_rows_are_stored_as_they_are(make_store, dtype):
    store = make_store()
    table = store.create_table("t", 300, 37, dtype)
    raw = np.random.default_rng(1).integers(0, 256, (300, table.row_bytes), np.uint8)
    table.load(raw)
    table.update([5, 299, 5], raw[[0, 1, 2]])
    raw[[5, 299]] = raw[[2, 1]]
    path = path_of(store)
    store.close()
    with ta.TieredStore(path, mode="r", fast_rows=3) as reopened:
        table = reopened.table("t")
        assert (table.dtype, table.embedding_dim) == (dtype, 37)
        np.testing.assert_array_equal(table.lookup(np.arange(300), raw=True), raw)


def test_int8_rows_lie_densely_in_pages(make_store):
    store = make_store()
    table = store.create_table("t", 6000, 64, "int8")
    assert table.row_bytes == 68
    pages, rows_per_page, _ = store._core.pages(table.position)
    assert (pages, rows_per_page) == (100, 60)


def test_result_of_several_tables_is_float32_or_float16(make_store):
    store = make_store()
    tables = [
        store.create_table(name, 10, 4, name) for name in ("int8", "int4", "float16", "float32")
    ]
    for table in tables:
        table.load(np.full((10, 4), 2.0, table.dtype if "float" in table.dtype else np.float32))
    rows, offsets = [1, 2, 3], [0, 1, 2, 3]
    pooled = store.embedding_bag(rows, offsets, tables[:3])
    assert pooled.dtype == np.float32
    assert (pooled == 2).all()
    half = np.empty((1, 12), np.float16)
    assert (store.embedding_bag(rows, offsets, tables[:3], out=half) == 2).all()
    mixed = tables[1:]
    with pytest.raises(TypeError, match="out: expected float32, got float16"):
        store.embedding_bag(rows, offsets, mixed, out=half)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", BITS)
def test_row_with_infinite_values_is_refused_by_number(make_store, dtype, bad):
    store = make_store()
    table = store.create_table("item", 100, 8, dtype)
    values = np.ones((100, 8), np.float32)
    table.load(values)
    values[73, 2] = bad
    message = f"table 'item', row 73: expected finite values to quantise, got {bad}"
    with pytest.raises(ValueError, match=message):
        table.load(values)
    with pytest.raises(ValueError, match="row 41: expected finite values to quantise"):
        table.update([7, 41], values[72:74])
    assert (table.lookup(np.arange(100)) == 1).all()


def test_row_beyond_float16_is_refused(make_store):
    table = make_store().create_table("item", 2, 2, "int8")
    with pytest.raises(ValueError, match=r"row 1: expected values whose scale and bias float16"):
        table.load(np.array([[1, 2], [-1e6, 3]], np.float32))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            np.zeros((10, 8), np.int32),
            TypeError,
            "expected float32 or uint8 .*, got int32",
        ),
        (
            np.zeros((10, 8), np.uint8),
            ValueError,
            r"\(n, 12\) for .*, got \(10, 8\)",
        ),
        (
            np.zeros((10, 12), np.float32),
            ValueError,
            r"\(n, 8\) for .*, got \(10, 12\)",
        ),
        (
            np.zeros((10, 12), np.float64),
            ValueError,
            r"\(n, 8\) for .*, got \(10, 12\)",
        ),
        (
            np.zeros(8, np.float64),
            ValueError,
            r"\(n, 8\) for .*, got \(8,\)",
        ),
    ],
)
def test_load_of_other_rows_is_refused(make_store, values, error, message):
    table = make_store().create_table("item", 10, 8, "int8")
    with pytest.raises(error, match=message):
        table.load(values)


# Rows of bytes.


@given(
    row_bytes=st.integers(1, 5000),
    capacity=st.integers(1, 40),
    seed=st.integers(0, 1 << 32),
    resident=st.booleans(),
)
def test_rows_of_bytes_are_returned_as_they_are(row_bytes, capacity, seed, resident):
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (40, row_bytes), np.uint8)
    budget = {"fast_bytes": "8MiB"} if resident else {"fast_rows": capacity}
    with new_store(**budget) as store:
        table = store.create_table("t", 40, dtype="bytes", row_bytes=row_bytes)
        assert (table.row_bytes, table.embedding_dim) == (row_bytes, row_bytes)
        assert (table.lookup(np.arange(40)) == 0).all()
        table.load(rows)
        for _ in range(4):
            indices = generator.integers(0, 40, 25)
            np.testing.assert_array_equal(table.lookup(indices), rows[indices])
            written = generator.choice(40, 7, replace=False)
            rows[written] = generator.integers(0, 256, (7, row_bytes), np.uint8)
            table.update(written, rows[written])
            table.prefetch(indices)
        np.testing.assert_array_equal(table.lookup(np.arange(40)), rows)


def test_rows_of_bytes_cannot_be_pooled(make_store):
    store = make_store()
    numbers = store.create_table("numbers", 10, 4)
    table = store.create_table("codes", 10, dtype="bytes", row_bytes=4)
    for pool in (
        lambda: table.embedding_bag([1, 2], [0]),
        lambda: store.embedding_bag([1, 2], [0, 1, 2], [numbers, table]),
    ):
        with pytest.raises(ValueError, match=r"bytes cannot be pooled.*'codes'"):
            pool()


def test_raw_rows_of_any_dtype(make_store):
    table = make_store().create_table("t", 10, 3, "float16")
    values = np.arange(30, dtype=np.float16).reshape(10, 3)
    table.load(values)
    np.testing.assert_array_equal(table.lookup([2, 9], raw=True), values[[2, 9]].view(np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "bytes"}, "row_bytes, embedding_dim: rows of bytes have the first"),
        ({"dtype": "bytes", "row_bytes": 4, "embedding_dim": 4}, "row_bytes, embedding_dim: rows"),
        ({"dtype": "bytes", "row_bytes": 0}, "row_bytes: expected"),
        ({"dtype": "int8", "row_bytes": 4}, "embedding_dim, row_bytes: rows of int8 have the"),
        ({}, "embedding_dim, row_bytes: rows of float32"),
    ],
)
def test_create_table_with_another_size_is_refused(make_store, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_store().create_table("t", 10, **arguments)
