"""Models with quantised rows: `convert(dtype=...)`, torchrec.quant, restore, checkpoints."""

import copy

import numpy as np
import pytest

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import convert  # noqa: E402
from torch import nn  # noqa: E402

from tieralloc._bindings import kernel_isa  # noqa: E402

DTYPES = ("int8", "int4")


@pytest.fixture
def store(make_store):
    return make_store(fast_bytes="4MiB")


def largest_step(weight, dtype):
    """Return the largest distance of two codes in any row, with the rounding of scale and bias."""
    spread = (weight.max(dim=1).values - weight.min(dim=1).values).max()
    return float(spread / {"int8": 255, "int4": 15}[dtype] + weight.abs().max() / 1024)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_convert_quantises_and_keeps_the_dtype_of_results(store, dtype, kind):
    model = nn.Sequential(nn.EmbeddingBag(50, 12, mode="sum"), nn.Linear(12, 2)).to(kind)
    weight = model[0].weight.detach().clone()
    inputs = torch.arange(50)[:, None]
    expected = model(inputs)
    conversion = ta.nn.convert(model, store, dtype=dtype, verbose=False)
    table = store.table("0")
    assert table.dtype == dtype == conversion.modules[0].dtype
    assert conversion.num_bytes == 50 * table.row_bytes
    step = largest_step(weight.double(), dtype)
    assert (model[0](inputs).double() - weight.double()).abs().max() <= step
    result = model(inputs)
    assert result.dtype is kind
    assert (result - expected).abs().max() <= 12 * step


@pytest.mark.parametrize("dtype", DTYPES)
def test_restore_returns_dequantised_weights(store, dtype):
    model = nn.Sequential(nn.Embedding(50, 12), nn.Linear(12, 2)).half()
    ta.nn.convert(model, store, dtype=dtype, verbose=False)
    values = torch.from_numpy(store.table("0").lookup(np.arange(50)))
    assert torch.equal(ta.nn.state_dict(model)["0.weight"], values)
    restored = ta.nn.restore(model)
    assert type(restored[0]) is nn.Embedding
    assert torch.equal(restored[0].weight, values.half())


def test_checkpoint_of_floats_is_quantised_as_it_loads(store):
    model = nn.Sequential(nn.Embedding(50, 12))
    weight = model[0].weight.detach().clone()
    ta.nn.convert(model, store, dtype="int8", verbose=False)
    before = store.table("0").lookup(np.arange(50))
    model.load_state_dict({"0.weight": torch.zeros(50, 12)})
    assert not store.table("0").lookup(np.arange(50)).any()
    model.load_state_dict({"0.weight": weight})
    np.testing.assert_array_equal(store.table("0").lookup(np.arange(50)), before)


def test_convert_prints_the_dtype(store, capsys):
    ta.nn.convert(nn.Sequential(nn.Embedding(1000, 64)), store, dtype="int4")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[:2]]
    assert lines == [
        ["module", "table", "dtype", "rows", "bytes", "converted"],
        ["0", "0", "int4", "1,000", "36.0", "kB", "yes"],
    ]


def test_convert_refuses_other_dtypes(store):
    with pytest.raises(ValueError, match="dtype: expected one of int8, int4 or None, got 'int2'"):
        ta.nn.convert(nn.Embedding(3, 2), store, dtype="int2")


def test_convert_attaches_to_an_existing_quantised_table(tmp_path):
    path = tmp_path / "model.tier"
    model = nn.Sequential(nn.EmbeddingBag(50, 12, mode="sum"))
    other = copy.deepcopy(model)
    with ta.TieredStore(path, fast_bytes="1MiB") as store:
        expected = convert(model, store, dtype="int8")(torch.arange(50)[None])
    with ta.TieredStore(path, fast_bytes="1MiB") as store:
        with pytest.raises(ValueError, match="table '0': expected float32, got int8"):
            convert(other, store, load=False)
        result = convert(other, store, load=False, dtype="int8")(torch.arange(50)[None])
    assert torch.equal(result, expected)


def test_rows_of_infinite_values_leave_the_model_unchanged(store):
    model = nn.Sequential(nn.Embedding(50, 12))
    with torch.no_grad():
        model[0].weight[17, 3] = torch.inf
    with pytest.raises(ValueError, match="table '0', row 17: expected finite values"):
        convert(model, store, dtype="int8")
    assert type(model[0]) is nn.Embedding


# torchrec.quant


@pytest.fixture
def torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal())
    import torchrec

    return torchrec


def collection(torchrec, *, pooling="SUM", is_weighted=False, output=torch.float32, dtype="int8"):
    """Return a quantised collection in a model; a feature uses two tables."""
    from torchrec.inference.modules import quantize_embeddings
    from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType

    configs = [
        EmbeddingBagConfig(
            name=name,
            num_embeddings=rows,
            embedding_dim=dim,
            feature_names=features,
            pooling=PoolingType[pooling],
        )
        for name, rows, dim, features in [
            ("user", 40, 8, ["u"]),
            ("item", 60, 20, ["i", "j"]),
            ("shop", 30, 64, ["j"]),
        ]
    ]
    floats = torchrec.EmbeddingBagCollection(tables=configs, is_weighted=is_weighted)
    kind = {"int8": torch.qint8, "int4": torch.quint4x2, "float16": torch.float16}[dtype]
    model = quantize_embeddings(
        nn.Sequential(floats), dtype=kind, inplace=False, output_dtype=output
    )
    assert type(model[0]).__module__ == "torchrec.quant.embedding_modules"
    return model


def features_of(torchrec, weighted):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 6, (3 * 16,), generator=generator, dtype=torch.int32)
    total = int(lengths.sum())
    return torchrec.KeyedJaggedTensor(
        keys=["j", "u", "i"],
        values=torch.randint(0, 30, (total,), generator=generator),
        lengths=lengths,
        weights=torch.rand(total, generator=generator) if weighted else None,
    )


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
@pytest.mark.parametrize("output", [torch.float32, torch.float16])
@pytest.mark.parametrize("pooling", ["SUM", "MEAN", "weighted SUM"])
def test_quantised_collection_is_converted_byte_for_byte(torchrec, store, dtype, output, pooling):
    weighted = pooling.startswith("weighted")
    model = collection(
        torchrec,
        pooling=pooling.split()[-1],
        is_weighted=weighted,
        output=output,
        dtype=dtype,
    )
    features = features_of(torchrec, weighted)
    expected = model[0](features)
    weights = {name: bag.weight for name, bag in model[0].embedding_bags.items()}
    conversion = ta.nn.convert(model, store, verbose=False)
    assert [entry.path for entry in conversion.modules] == [
        f"0.embedding_bags.{name}" for name in weights
    ]
    for entry, weight in zip(conversion.modules, weights.values(), strict=True):
        table = store.table(entry.table)
        assert table.dtype == dtype == entry.dtype
        padded = weight.elem if hasattr(weight, "elem") else weight
        raw = table.lookup(np.arange(len(table)), raw=True)
        np.testing.assert_array_equal(raw, padded.numpy()[:, : table.row_bytes])
    assert type(model[0]) is ta.nn.TieredEmbeddingBagCollection
    result = model[0](features)
    assert result.keys() == expected.keys()
    assert result.length_per_key() == expected.length_per_key()
    assert result.values().dtype is expected.values().dtype is output
    if dtype == "float16" or kernel_isa() == "baseline":
        torch.testing.assert_close(result.values(), expected.values(), rtol=2e-3, atol=1e-4)
    else:
        assert torch.equal(result.values(), expected.values())


def test_restore_of_quantised_collection_returns_floats(torchrec, store):
    model = collection(torchrec)
    features = features_of(torchrec, False)
    expected = model[0](features).values()
    ta.nn.convert(model, store, verbose=False)
    restored = ta.nn.restore(model)
    assert type(restored[0]) is torchrec.EmbeddingBagCollection
    torch.testing.assert_close(restored[0](features).values(), expected, rtol=1e-5, atol=1e-5)


def test_quantised_collection_with_two_poolings_stays(torchrec, store):
    from torchrec.inference.modules import quantize_embeddings
    from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType

    configs = [
        EmbeddingBagConfig(
            name=pooling.name,
            num_embeddings=9,
            embedding_dim=4,
            feature_names=[pooling.name],
            pooling=pooling,
        )
        for pooling in (PoolingType.SUM, PoolingType.MEAN)
    ]
    floats = torchrec.EmbeddingBagCollection(tables=configs)
    model = quantize_embeddings(nn.Sequential(floats), dtype=torch.qint8, inplace=False)
    with pytest.raises(ValueError, match="pooling: expected sum or mean for all tables, got mean"):
        convert(model, store)
