"""Rows of float8 with block scales, against torch's decoding."""

import itertools

import numpy as np
import pytest
from support import path_of

import tieralloc as ta

torch = pytest.importorskip("torch")

ROWS = 200
FORMATS = list(itertools.product(("ue8m0", "float32"), (32, 64, 128)))


def make_rows(dim, scale, block, seed=0):
    """Return rows as the store keeps them, and their values."""
    random = torch.Generator().manual_seed(seed)
    elements = torch.randn(ROWS, dim, generator=random).mul(20).to(torch.float8_e4m3fn)
    blocks = -(-dim // block)
    if scale == "ue8m0":
        bits = torch.randint(115, 135, (ROWS, blocks), generator=random, dtype=torch.uint8)
        raw, scales = bits, torch.exp2(bits.float() - 127)
    else:
        scales = torch.rand(ROWS, blocks, generator=random) + 0.01
        raw = torch.from_numpy(scales.numpy().view(np.uint8))
    values = elements.float() * scales.repeat_interleave(block, dim=1)[:, :dim]
    return torch.cat([elements.view(torch.uint8), raw], dim=1).numpy(), values


@pytest.mark.parametrize(("scale", "block"), FORMATS)
@pytest.mark.parametrize("dim", [48, 160])
def test_rows_are_decoded(make_store, scale, block, dim):
    raw, values = make_rows(dim, scale, block)
    table = make_store().create_table("t", ROWS, dim, f"float8_e4m3_{scale}_{block}")
    table.load(raw)
    assert table.row_bytes == raw.shape[1]
    indices = np.random.default_rng(0).integers(0, ROWS, 100)
    np.testing.assert_array_equal(table.lookup(indices), values[indices].numpy())
    for dtype, bits in ((torch.float16, np.float16), (torch.bfloat16, np.uint16)):
        out = table.lookup(indices, np.empty((100, dim), bits))
        assert torch.equal(torch.from_numpy(out).view(dtype), values[indices].to(dtype))
    np.testing.assert_array_equal(table.lookup(indices, raw=True), raw[indices])


def test_bags_equal_those_of_torch(make_store):
    raw, values = make_rows(160, "ue8m0", 32)
    table = make_store().create_table("t", ROWS, 160, "float8_e4m3_ue8m0_32")
    table.load(raw)
    indices, offsets = torch.randint(ROWS, (60,)), torch.arange(0, 60, 5)
    for mode in ("sum", "mean", "max"):
        expected = torch.nn.functional.embedding_bag(indices, values, offsets, mode=mode)
        got = torch.from_numpy(table.embedding_bag(indices.numpy(), offsets.numpy(), mode))
        torch.testing.assert_close(got, expected)


def test_updated_rows_are_raw_and_floats_are_refused(make_store):
    raw, values = make_rows(48, "float32", 32)
    other, other_values = make_rows(48, "float32", 32, seed=1)
    table = make_store().create_table("t", ROWS, 48, "float8_e4m3_float32_32")
    table.load(raw)
    table.update([7], other[[7]])
    np.testing.assert_array_equal(table.lookup([6, 7])[1], other_values[7].numpy())
    with pytest.raises(TypeError, match="uint8"):
        table.update([7], values[[7]].numpy())
    with pytest.raises(TypeError, match="out: expected float32 or float16 or bfloat16"):
        table.lookup([1], np.empty((1, 48)))


def test_file_keeps_the_dtype(make_store):
    raw, values = make_rows(48, "ue8m0", 32)
    store = make_store()
    store.create_table("t", ROWS, 48, "float8_e4m3_ue8m0_32").load(raw)
    path = path_of(store)
    store.close()
    table = make_store.open(path).table("t")
    assert table.dtype == "float8_e4m3_ue8m0_32"
    np.testing.assert_array_equal(table.lookup([3, 5]), values[[3, 5]].numpy())


def test_rows_of_a_foreign_file_are_decoded_in_place(tmp_path):
    raw, values = make_rows(160, "ue8m0", 32)
    raw.tofile(tmp_path / "rows")
    rows = ta.RawRows(
        tmp_path / "rows",
        num_embeddings=ROWS,
        embedding_dim=160,
        dtype="float8_e4m3_ue8m0_32",
    )
    with ta.TieredStore(slow=ta.Checkpoint(tables={"t": rows}), fast_rows=20) as store:
        np.testing.assert_array_equal(store.table("t").lookup(np.arange(ROWS)), values.numpy())
