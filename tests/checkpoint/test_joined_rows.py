"""Rows of several tensors, such as weights and scales that lie apart."""

import numpy as np
import pytest
from checkpoint_support import ENGINES, make_shards, shuffled, store_of

import tieralloc as ta


@pytest.fixture
def shards(folder):
    """Return the rows of weights in two shards, of their scales in a third, and both as one."""
    make_shards(folder)
    save_file = pytest.importorskip("safetensors.numpy").save_file
    random = np.random.default_rng(0)
    weights = random.integers(0, 256, (5000, 128)).astype(np.uint8)
    scales = random.random((5000, 4), np.float32)
    norms = random.random(5000, np.float32)
    save_file({"w.0": weights[:3000], "norm": norms}, folder / "one.safetensors")
    save_file({"w.1": weights[3000:]}, folder / "two.safetensors")
    save_file({"scale": scales}, folder / "three.safetensors")
    parts = [weights, scales.view(np.uint8), norms[:, None].copy().view(np.uint8)]
    return np.concatenate(parts, axis=1)


TABLES = {
    "joined": ta.JoinedRows([["w.0", "w.1"], "scale", "norm"]),
    "scale": "scale",
    "f32": "f32",
}


@pytest.mark.parametrize("engine", ENGINES)
def test_joined_rows_have_their_parts_side_by_side(folder, shards, engine):
    with store_of(folder / "*.safetensors", tables=TABLES, engine=engine) as store:
        table = store.table("joined")
        assert (len(table), table.dtype, table.row_bytes) == (5000, "bytes", 148)
        order = shuffled(5000)
        np.testing.assert_array_equal(table.lookup(order), shards[order])
        np.testing.assert_array_equal(table.lookup(np.arange(5000)), shards)
        np.testing.assert_array_equal(
            store.table("scale").lookup([7]).view(np.uint8), shards[[7], 128:144]
        )
        assert store.table("f32").embedding_bag([1, 2], [0]).shape == (1, 33)
        assert store.stats().slow_tier.kind == "checkpoint"
        assert store.stats().dram.staging_bytes > 0


def test_resident_and_prefetched_joined_rows(folder, shards):
    slow = ta.Checkpoint(folder / "*.safetensors", tables=TABLES)
    with ta.TieredStore(slow=slow, fast_bytes="64MiB") as store:
        assert store.table("joined").resident
        np.testing.assert_array_equal(store.table("joined").lookup(np.arange(5000)), shards)
    with store_of(folder / "*.safetensors", tables=TABLES, fast_rows=600) as store:
        assert store.warm_up({"joined": np.arange(0, 500, 3)}) == 167
        store.reset_stats()
        found = store.table("joined").lookup(np.arange(0, 300, 3))
        np.testing.assert_array_equal(found, shards[:300:3])
        assert store.stats().on_demand_fetches == 0


def test_changed_file_of_one_part_is_an_error(folder, shards):
    with store_of(folder / "*.safetensors", tables=TABLES) as store:
        path = folder / "two.safetensors"
        path.unlink()
        with pytest.raises(
            OSError, match=r"table 'joined', row 3001 at offset .* was deleted"
        ) as caught:
            store.table("joined").lookup([1, 3001])
        assert caught.value.filename == str(path)
        np.testing.assert_array_equal(store.table("joined").lookup([1, 2999]), shards[[1, 2999]])


def test_parts_are_checked(folder, shards):
    joined = {
        ("scale", "f32"): "'t': expected parts of 5000 rows, got 700",
        ("scale", "cube"): "expected a tensor of two dimensions",
    }
    for parts, message in joined.items():
        with pytest.raises(ValueError, match=message):
            store_of(folder / "*.safetensors", tables={"t": ta.JoinedRows(list(parts))})
    for parts in (["scale"], "scale"):
        with pytest.raises(ValueError, match="parts: expected two or more"):
            ta.JoinedRows(parts)
    with pytest.raises(
        ValueError, match="overlay: expected tables without JoinedRows, got 'joined'"
    ):
        ta.Checkpoint(folder / "*.safetensors", tables=TABLES, overlay=folder / "o")
    with pytest.raises(ValueError, match="of two dimensions"):
        store_of(folder / "*.safetensors", tables={"t": "norm"})


def test_float8_and_scales_that_lie_apart_are_decoded(folder):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    elements = torch.randn(3000, 256).mul(20).to(torch.float8_e4m3fn)
    scales = torch.rand(3000, 2)
    save_file({"w": elements, "scale": scales}, folder / "f8.safetensors")
    values = elements.float() * scales.repeat_interleave(128, dim=1)
    rows = ta.JoinedRows(["w", "scale"], dtype="float8_e4m3_float32_128", embedding_dim=256)
    with store_of(folder / "f8.safetensors", tables={"t": rows}) as store:
        order = shuffled(3000)
        np.testing.assert_array_equal(store.table("t").lookup(order), values[order].numpy())
    wrong = ta.JoinedRows(["w", "scale"], dtype="float8_e4m3_float32_64", embedding_dim=256)
    with pytest.raises(ValueError, match="parts of 272 bytes for rows of dim 256, got 264"):
        store_of(folder / "f8.safetensors", tables={"t": wrong})
    with pytest.raises(ValueError, match="embedding_dim: expected one unless rows are bytes"):
        ta.JoinedRows(["w", "scale"], dtype="float8_e4m3_float32_64")
