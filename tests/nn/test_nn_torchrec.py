"""A converted EmbeddingBagCollection of torchrec's takes and returns what it did."""

import copy

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

from nn_support import same_bits  # noqa: E402
from torchrec.models.dlrm import DLRM  # noqa: E402
from torchrec.modules.embedding_configs import (  # noqa: E402
    DataType,
    EmbeddingBagConfig,
    PoolingType,
)
from torchrec.modules.embedding_modules import EmbeddingBagCollection  # noqa: E402
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor  # noqa: E402

convert = ta.nn.convert
Collection = ta.nn.TieredEmbeddingBagCollection


def table(name, features, *, rows=20, dim=4, **options):
    return EmbeddingBagConfig(
        name=name, num_embeddings=rows, embedding_dim=dim, feature_names=features, **options
    )


def jagged(lengths, keys, *, rows=20, weighted=False, seed=0):
    """Features with bags of these lengths, (keys, samples)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(map(sum, lengths))
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.randint(0, rows, (total,), generator=generator),
        lengths=torch.tensor([n for of_key in lengths for n in of_key], dtype=torch.int32),
        weights=torch.rand(total, generator=generator) if weighted else None,
    )


def assert_same(found, expected):
    assert isinstance(found, KeyedTensor)
    assert found.keys() == expected.keys()
    assert found.length_per_key() == expected.length_per_key()
    assert same_bits(found.values(), expected.values())


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


@settings(max_examples=40)
@given(data=st.data())
def test_it_returns_what_torchrec_does_bit_for_bit(data):
    features = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
    shared = data.draw(st.booleans())
    weighted = data.draw(st.booleans())
    tables = [
        table(f"t_{name}", [name], dim=data.draw(st.integers(1, 9), label="dim"))
        for name in features
    ]
    if shared:
        tables.append(table("t_all", features))
    keys = data.draw(st.permutations([*features, "unasked"]), label="keys")
    if data.draw(st.booleans(), label="as asked"):
        keys = list(features)
    samples = data.draw(st.integers(1, 5))
    bags = st.lists(st.integers(0, 4), min_size=samples, max_size=samples)
    lengths = [data.draw(bags) for _ in keys]
    collection = EmbeddingBagCollection(tables=tables, is_weighted=weighted)
    call = jagged(lengths, keys, weighted=weighted)
    expected = collection(call)
    with new_store(fast_rows=16) as store:
        tiered = convert(collection, store)
        assert isinstance(tiered, Collection)
        assert_same(tiered(call), expected)
        assert store.stats().calls == 1


def test_it_answers_what_torchrecs_does(store):
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
def test_other_poolings_are_kept(store, pooling):
    tables = [table("t0", ["a"], pooling=pooling), table("t1", ["b"], pooling=pooling)]
    collection = EmbeddingBagCollection(tables=tables)
    call = jagged([[3, 0, 1], [2, 2, 0]], ["a", "b"])
    expected = collection(call).values()
    found = convert(collection, store)(call).values()
    torch.testing.assert_close(found, expected)


def test_tables_that_cannot_be_one_call_are_swapped_one_by_one(store):
    tables = [table("t0", ["a"]), table("t1", ["b"], pooling=PoolingType.MEAN)]
    collection = EmbeddingBagCollection(tables=tables)
    call = jagged([[3, 0, 1], [2, 2, 0]], ["a", "b"])
    expected = collection(call)
    found = convert(collection, store)
    assert isinstance(found, EmbeddingBagCollection)
    assert isinstance(found.embedding_bags["t1"], ta.nn.TieredEmbeddingBag)
    torch.testing.assert_close(found(call).values(), expected.values())


def test_hooks_on_a_bag_are_called_still(store):
    collection = EmbeddingBagCollection(tables=[table("t0", ["a"])])
    seen = []
    collection.embedding_bags["t0"].register_forward_hook(lambda *_: seen.append(1))
    convert(torch.nn.Sequential(collection), store)[0](jagged([[1]], ["a"]))
    assert seen == [1]


def test_hooks_on_the_collection_are_called_and_can_be_removed(store):
    model = torch.nn.Sequential(EmbeddingBagCollection(tables=[table("t0", ["a"])]))
    seen = []
    handle = model[0].register_forward_hook(lambda *_: seen.append(1))
    convert(model, store)
    model(jagged([[1]], ["a"]))
    handle.remove()
    model(jagged([[1]], ["a"]))
    assert seen == [1]


def test_rows_of_16_bits_give_results_of_32(store):
    collection = EmbeddingBagCollection(tables=[table("t0", ["a"], data_type=DataType.FP16)])
    call = jagged([[1, 1, 0]], ["a"])
    expected = collection(call)
    assert_same(convert(collection, store)(call), expected)


def test_a_feature_that_is_not_there_is_named(store):
    tiered = convert(EmbeddingBagCollection(tables=[table("t0", ["a"])]), store)
    with pytest.raises(KeyError, match="a"):
        tiered(jagged([[1]], ["b"]))


def test_a_row_out_of_range_is_named(store):
    tiered = convert(EmbeddingBagCollection(tables=[table("t0", ["a"])]), store)
    call = KeyedJaggedTensor(keys=["a"], values=torch.tensor([20]), lengths=torch.tensor([1]))
    with pytest.raises(IndexError, match="20"):
        tiered(call)


def test_batches_that_were_made_smaller_are_told_apart(store):
    collection = EmbeddingBagCollection(tables=[table("t0", ["a"]), table("t1", ["b"])])
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


def test_a_subclass_that_does_otherwise_is_left_with_its_bags_swapped(store):
    class Doubling(EmbeddingBagCollection):
        def forward(self, features):
            made = super().forward(features)
            return KeyedTensor(made.keys(), made.length_per_key(), 2 * made.values())

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


def test_a_dlrm_scores_the_same_bit_for_bit_and_serves_all_tables_in_a_call(store):
    model = dlrm()
    plain = copy.deepcopy(model)
    convert(model, store)
    store.reset_stats()
    dense = torch.rand(7, 4)
    call = jagged([[i % 4 for i in range(7)]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        assert same_bits(model(dense, call), plain(dense, call))
    assert store.stats().calls == 1


def test_a_model_without_rows_attaches_to_a_store_that_has_them(store):
    model = dlrm()
    dense, call = torch.rand(2, 4), jagged([[1, 2]] * 3, ["f0", "f1", "f2"], rows=50)
    with torch.inference_mode():
        expected = model(dense, call)
        convert(model, store)
        empty = dlrm("meta")
        empty.load_state_dict(model.state_dict(), strict=False)
        convert(empty, store, load=False)
        assert same_bits(empty(dense, call), expected)
