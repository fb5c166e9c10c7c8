"""The collection accepts and returns the same tensors as torchrec's EmbeddingBagCollection."""

import copy
import time
from types import SimpleNamespace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store

import tieralloc as ta

torch = pytest.importorskip("torch")


def import_torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal(), allow_module_level=True)


import_torchrec()

from nn_support import convert, same_bits  # noqa: E402
from torchrec.models.dlrm import DLRM  # noqa: E402
from torchrec.modules.embedding_configs import (  # noqa: E402
    DataType,
    EmbeddingBagConfig,
    PoolingType,
)
from torchrec.modules.embedding_modules import EmbeddingBagCollection  # noqa: E402
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor  # noqa: E402

Collection = ta.nn.TieredEmbeddingBagCollection


def table(name, features, *, rows=20, dim=4, **options):
    return EmbeddingBagConfig(
        name=name, num_embeddings=rows, embedding_dim=dim, feature_names=features, **options
    )


def jagged(lengths, keys, *, rows=20, weighted=False, seed=0):
    """Return features with bags of these lengths, (keys, samples)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(map(sum, lengths))
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.randint(0, rows, (total,), generator=generator),
        lengths=torch.tensor([n for bags in lengths for n in bags], dtype=torch.int32),
        weights=torch.rand(total, generator=generator) if weighted else None,
    )


def assert_same(result, expected):
    assert isinstance(result, KeyedTensor)
    assert result.keys() == expected.keys()
    assert result.length_per_key() == expected.length_per_key()
    assert same_bits(result.values(), expected.values())


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


@settings(max_examples=40)
@given(data=st.data())
def test_converted_collection_equals_torchrec_bit_for_bit(data):
    features = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
    shared = data.draw(st.booleans())
    weighted = data.draw(st.booleans())
    tables = [
        table(f"t_{name}", [name], dim=data.draw(st.integers(1, 9), label="dim"))
        for name in features
    ]
    if shared:
        tables.append(table("t_all", features))
    keys = data.draw(st.permutations([*features, "unused"]), label="keys")
    if data.draw(st.booleans(), label="keys in order"):
        keys = list(features)
    samples = data.draw(st.integers(1, 5))
    bags = st.lists(st.integers(0, 4), min_size=samples, max_size=samples)
    lengths = [data.draw(bags) for _ in keys]
    collection = EmbeddingBagCollection(tables=tables, is_weighted=weighted)
    call = jagged(lengths, keys, weighted=weighted)
    expected = collection(call)
    with new_store(fast_rows=16) as store:
        tiered = convert(collection, store)
        assert type(tiered) is Collection
        # Any object with the methods of a KeyedJaggedTensor will do.
        methods = ("keys", "values", "offsets", "weights_or_none")
        for argument in (call, SimpleNamespace(**{name: getattr(call, name) for name in methods})):
            store.reset_stats()
            assert_same(tiered(argument), expected)
            assert store.stats().calls == 1


@settings(max_examples=20)
@given(data=st.data())
def test_collection_of_modules_equals_torchrec_bit_for_bit(data):
    features = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    lengths = [data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=3)) for _ in features]
    call = jagged(lengths, features)
    theirs = EmbeddingBagCollection(tables=[table("t", features), table("u", features[:1])])
    with new_store(fast_rows=16) as store:
        bags = {
            name: ta.nn.TieredEmbeddingBag.from_pretrained(bag.weight, mode="sum", store=store)
            for name, bag in theirs.embedding_bags.items()
        }
        tiered = Collection(bags, feature_names=[features, features[:1]])
        assert_same(tiered(call), theirs(call))
        for ours, expected in zip(
            tiered.embedding_bag_configs(), theirs.embedding_bag_configs(), strict=True
        ):
            assert vars(ours) | {"init_fn": expected.init_fn} == vars(expected)


@pytest.mark.parametrize(("dtype", "mode"), [("float64", "sum"), ("float32", "max")])
def test_configs_torchrec_does_not_have_raise(store, dtype, mode):
    collection = Collection([store.create_table("t", 5, 3, dtype)], mode=mode)
    with pytest.raises(ValueError, match=f"got {dtype} and mode '{mode}'"):
        collection.embedding_bag_configs()


def test_weighted_collection_without_weights_raises(store):
    tiered = Collection([store.create_table("a", 20, 4)], is_weighted=True, mode="sum")
    with pytest.raises(ValueError, match="expected weights"):
        tiered(jagged([[1]], ["a"]))


def test_converted_collection_has_attributes_of_torchrec(store):
    tables = [table("t0", ["a", "b"]), table("t1", ["c"])]
    collection = EmbeddingBagCollection(tables=tables)
    tiered = convert(torch.nn.Sequential(collection), store)[0]
    assert tiered.embedding_bag_configs() == tables
    assert tiered.is_weighted() is False
    assert tiered.device == collection.device
    assert list(tiered.embedding_bags) == ["t0", "t1"]
    assert tiered.feature_names == ["a", "b", "c"]
    assert list(store.tables) == ["0.embedding_bags.t0", "0.embedding_bags.t1"]
    assert not list(tiered.parameters())


@pytest.mark.parametrize("pooling", [PoolingType.SUM, PoolingType.MEAN])
def test_converted_collection_keeps_pooling(store, pooling):
    tables = [table("t0", ["a"], pooling=pooling), table("t1", ["b"], pooling=pooling)]
    collection = EmbeddingBagCollection(tables=tables)
    call = jagged([[3, 0, 1], [2, 2, 0]], ["a", "b"])
    expected = collection(call).values()
    torch.testing.assert_close(convert(collection, store)(call).values(), expected)


def test_convert_collection_of_two_modes_replaces_bags(store):
    tables = [table("t0", ["a"]), table("t1", ["b"], pooling=PoolingType.MEAN)]
    collection = EmbeddingBagCollection(tables=tables)
    call = jagged([[3, 0, 1], [2, 2, 0]], ["a", "b"])
    expected = collection(call)
    result = convert(collection, store)
    assert result is collection
    assert isinstance(result.embedding_bags["t1"], ta.nn.TieredEmbeddingBag)
    torch.testing.assert_close(result(call).values(), expected.values())


def test_convert_keeps_hooks_of_bags(store):
    collection = EmbeddingBagCollection(tables=[table("t0", ["a"])])
    seen = []
    collection.embedding_bags["t0"].register_forward_hook(lambda *_: seen.append(1))
    convert(torch.nn.Sequential(collection), store)[0](jagged([[1]], ["a"]))
    assert seen == [1]


def test_convert_keeps_hooks_of_collection(store):
    model = torch.nn.Sequential(EmbeddingBagCollection(tables=[table("t0", ["a"])]))
    seen = []
    handle = model[0].register_forward_hook(lambda *_: seen.append(1))
    convert(model, store)
    model(jagged([[1]], ["a"]))
    handle.remove()
    model(jagged([[1]], ["a"]))
    assert seen == [1]


def test_converted_collection_of_float16_returns_float32(store):
    collection = EmbeddingBagCollection(tables=[table("t0", ["a"], data_type=DataType.FP16)])
    call = jagged([[1, 1, 0]], ["a"])
    expected = collection(call)
    assert_same(convert(collection, store)(call), expected)


def test_converted_collection_names_missing_feature(store):
    tiered = convert(EmbeddingBagCollection(tables=[table("t0", ["a"])]), store)
    with pytest.raises(KeyError, match="expected a feature 'a'"):
        tiered(jagged([[1]], ["b"]))


def test_converted_collection_names_row_out_of_range(store):
    tiered = convert(EmbeddingBagCollection(tables=[table("t0", ["a"])]), store)
    call = KeyedJaggedTensor(keys=["a"], values=torch.tensor([20]), lengths=torch.tensor([1]))
    with pytest.raises(IndexError, match="20"):
        tiered(call)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_converted_collection_repeats_deduplicated_samples(store, names):
    collection = EmbeddingBagCollection(tables=[table(f"t_{name}", [name]) for name in names])
    call = KeyedJaggedTensor(
        keys=["a", "b"],
        values=torch.arange(6),
        lengths=torch.tensor([1, 2, 3]),
        stride_per_key_per_rank=[[1], [2]],
        inverse_indices=(["a", "b"], torch.tensor([[0, 0, 0], [1, 0, 1]])),
    )
    expected = collection(call)
    assert expected.values().shape == (3, 8)
    assert_same(convert(collection, store)(call), expected)


def test_convert_collection_subclass_replaces_bags(store):
    class Doubling(EmbeddingBagCollection):
        def forward(self, features):
            pooled = super().forward(features)
            return KeyedTensor(pooled.keys(), pooled.length_per_key(), 2 * pooled.values())

    collection = Doubling(tables=[table("t0", ["a"])])
    call = jagged([[1, 2]], ["a"])
    expected = collection(call)
    assert convert(collection, store) is collection
    assert_same(collection(call), expected)
    assert store.stats().calls == 1


def dlrm(device=None):
    torch.manual_seed(0)
    collection = EmbeddingBagCollection(
        tables=[table(f"t{i}", [f"f{i}"], rows=50, dim=8) for i in range(3)],
        device=torch.device(device or "cpu"),
    )
    return DLRM(
        embedding_bag_collection=collection,
        dense_in_features=4,
        dense_arch_layer_sizes=[16, 8],
        over_arch_layer_sizes=[16, 1],
    ).eval()


def test_converted_dlrm_keeps_scores_in_one_call(store):
    model = dlrm()
    plain = copy.deepcopy(model)
    convert(model, store)
    store.reset_stats()
    dense = torch.rand(7, 4)
    call = jagged([[i % 4 for i in range(7)]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        assert same_bits(model(dense, call), plain(dense, call))
    assert store.stats().calls == 1


def test_convert_attaches_model_without_rows(store):
    model = dlrm()
    dense, call = torch.rand(2, 4), jagged([[1, 2]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        expected = model(dense, call)
        convert(model, store)
        empty = dlrm("meta")
        empty.load_state_dict(model.state_dict(), strict=False)
        convert(empty, store, load=False)
        assert same_bits(empty(dense, call), expected)


def test_restored_collection_equals_the_original(store):
    tables = [table("t0", ["a", "b"]), table("t1", ["c"])]
    model = torch.nn.Sequential(EmbeddingBagCollection(tables=tables))
    plain = copy.deepcopy(model)
    convert(model, store)
    whole = ta.nn.state_dict(model)
    assert list(whole) == list(plain.state_dict())
    assert ta.nn.restore(model) is model
    assert type(model[0]) is EmbeddingBagCollection
    assert model[0].device == plain[0].device
    assert vars(model[0]).keys() == vars(plain[0]).keys()
    call = jagged([[1, 2]] * 3, ["a", "b", "c"])
    assert_same(model(call), plain(call))
    for state in (model.state_dict(), whole):
        assert all(same_bits(state[key], value) for key, value in plain.state_dict().items())


def test_converted_collection_loads_a_checkpoint(store):
    plain = dlrm()
    model = convert(dlrm(), store)
    for weight in plain.parameters():
        torch.nn.init.normal_(weight)
    model.load_state_dict(plain.state_dict())
    dense, call = torch.rand(2, 4), jagged([[1, 2]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        assert same_bits(model(dense, call), plain(dense, call))


def test_converted_half_dlrm_returns_half(store):
    model = convert(dlrm(), store).half()
    dense, call = torch.rand(2, 4).half(), jagged([[1, 2]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        assert model(dense, call).dtype is torch.float16


def quantised_collection():
    from torchrec.quant.embedding_modules import EmbeddingBagCollection as Quantised

    return Quantised(
        tables=[table("t0", ["a"], data_type=DataType.INT2)],
        is_weighted=False,
        device=torch.device("cpu"),
    )


def table_batched_embedding():
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    spec = (20, 4, EmbeddingLocation.HOST, ComputeDevice.CPU)
    return SplitTableBatchedEmbeddingBagsCodegen([spec])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (quantised_collection, "rows: expected int8, int4, fp32, fp16, got int2"),
        (table_batched_embedding, "SplitTableBatchedEmbeddingBagsCodegen of fbgemm_gpu"),
    ],
)
def test_convert_says_why_it_keeps_kernels_of_fbgemm(store, make, named):
    model = torch.nn.Sequential(make())
    with pytest.raises(ValueError, match=rf"nothing to convert.*'0': .*{named}"):
        convert(model, store)
    model.append(torch.nn.Embedding(20, 4))
    with pytest.warns(UserWarning, match=f"'0': .*{named}"):
        conversion = ta.nn.convert(model, store)
    (kept, converted) = conversion.modules
    assert (kept.table, converted.table) == (None, "1")
    assert kept.num_bytes >= 80


def test_prefetch_of_dlrm_makes_rows_resident(store):
    model = convert(dlrm(), store)
    dense, call = torch.rand(4, 4), jagged([[1, 2, 0, 1]] * 3, ["f0", "f1", "f2"], rows=50)
    assert ta.nn.prefetch(model, dense, call) > 5
    while ta.nn.prefetch(model, dense, call) > 0:
        time.sleep(0.01)
    store.reset_stats()
    with torch.inference_mode():
        plain = model(dense, call)
        assert store.stats().on_demand_fetches == 0
        assert same_bits(ta.nn.batch_lookups(model)(dense, call), plain)
        assert store.stats().calls == 2


def test_batched_lookups_of_collections_equal_torchrec(store):
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = EmbeddingBagCollection(tables=[table("t0", ["a", "b"]), table("t1", ["c"])])
            self.two = EmbeddingBagCollection(tables=[table("t0", ["c"]), table("t1", ["a"])])

        def forward(self, features):
            return self.one(features).values(), self.two(features).values()

    model = Two()
    call = jagged([[1, 0, 3]] * 3, ["a", "b", "c"])
    expected = model(call)
    ta.nn.batch_lookups(convert(model, store))
    for _ in range(2):
        store.reset_stats()
        assert all(map(same_bits, model(call), expected))
        assert store.stats().calls == 1


@pytest.mark.parametrize("keys", [["f0", "f1"], ["f1", "other", "f0"]])
@pytest.mark.parametrize("weighted", [False, True])
def test_collection_in_a_graph_equals_eager(make_store, keys, weighted):
    tables = [table("one", ["f0"]), table("two", ["f1"], rows=30, dim=8)]
    plain = EmbeddingBagCollection(tables=tables, is_weighted=weighted).requires_grad_(False)
    collection = convert(plain, make_store(fast_rows=16))
    torch._dynamo.reset()
    compiled = torch.compile(collection, backend="aot_eager", fullgraph=True)
    for samples in (2, 3, 5):
        lengths = [[(i + k) % 4 for i in range(samples)] for k in range(len(keys))]
        features = jagged(lengths, keys, weighted=weighted)
        assert_same(compiled(features), collection(features))
        program = torch.export.export(collection, (features,), strict=False)
        assert_same(program.module()(features), collection(features))
