"""A collection of bags returns in one call the results of its modules."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store, run_python

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, bag_calls, random_rows, same_bits  # noqa: E402

TieredEmbeddingBag = ta.nn.TieredEmbeddingBag
Collection = ta.nn.TieredEmbeddingBagCollection


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


def create_bags(store, dims, dtype=torch.float32, **options):
    options = {"mode": "sum", **options}
    return [
        TieredEmbeddingBag.from_pretrained(
            random_rows(10 + dim, dim, dtype, seed=dim), store=store, name=f"t{i}", **options
        )
        for i, dim in enumerate(dims)
    ]


@settings(max_examples=80)
@given(data=st.data())
def test_collection_returns_the_results_of_its_modules(data):
    dims = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    dtype, mode = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(MODES))
    weighted = mode == "sum" and data.draw(st.booleans())
    last = data.draw(st.booleans())
    number = data.draw(st.integers(0, 6))
    padding = data.draw(st.none() | st.integers(-10, 9))
    options = {"mode": mode, "include_last_offset": last, "padding_idx": padding}
    call = bag_calls(10, dtype, weighted=weighted, include_last_offset=last, bags=number)
    calls = [data.draw(call) for _ in dims]
    with new_store(fast_rows=16) as store:
        modules = create_bags(store, dims, dtype, **options)
        collection = Collection(modules)
        inputs, offsets, weights = zip(*calls, strict=True)
        result = collection.embedding_bag(inputs, offsets, weights if weighted else None, last)
        assert result.shape == (number, sum(dims))
        parts = collection.split(result)
        assert list(parts) == collection.feature_names == list(store.tables)
        for part, module, arguments in zip(parts.values(), modules, calls, strict=True):
            assert same_bits(part, module(*arguments))


@pytest.mark.parametrize("last", [False, True])
def test_collection_serves_one_tensor_in_one_call(store, last):
    modules = create_bags(store, [3, 5])
    indices, offsets = torch.tensor([1, 2, 3, 4, 4, 5]), torch.tensor([0, 2, 2, 3, 6])
    collection = Collection(modules)
    store.reset_stats()
    result = collection.embedding_bag(
        indices, offsets if last else offsets[:-1], include_last_offset=last
    )
    assert store.stats().calls == 1
    first = modules[0](indices[:2], torch.tensor([0, 2]))
    second = modules[1](indices[2:], torch.tensor([0, 1]))
    assert same_bits(result, torch.cat([first, second], 1))


def test_collection_ignores_indices_after_the_last_bag(store):
    modules = create_bags(store, [3, 5], include_last_offset=True)
    inputs = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6, 7])]
    offsets = [torch.tensor([0, 1, 2]), torch.tensor([0, 0, 3])]
    expected = [module(*one) for module, *one in zip(modules, inputs, offsets, strict=True)]
    result = Collection(modules).embedding_bag(inputs, offsets, include_last_offset=True)
    assert same_bits(result, torch.cat(expected, 1))


def test_collection_of_a_table_serves_several_features(store):
    (module,) = create_bags(store, [3])
    collection = Collection([module.table], feature_names=[["seen", "bought"]], mode="sum")
    indices = torch.tensor([1, 2, 3])
    result = collection.split(collection.embedding_bag(indices, torch.tensor([0, 2])))
    assert same_bits(result["seen"], module(indices[None, :2]))
    assert same_bits(result["bought"], module(indices[None, 2:]))


def test_collection_names_shared_features_by_table(store):
    tables = dict(zip(["items", "a.b"], create_bags(store, [3, 5]), strict=True))
    collection = Collection(tables, feature_names=["seen", ["seen", "bought"]])
    assert collection.feature_names == ["seen", "seen", "bought"]
    assert collection.embedding_names == ["seen@items", "seen@a.b", "bought"]
    assert collection.embedding_dims == [3, 5, 5]
    assert dict(collection.embedding_bags.items()) == tables


def test_collection_of_16_and_32_bit_tables_returns_float32(store):
    weights = [random_rows(10, 3, torch.bfloat16), random_rows(10, 2)]
    modules = [
        TieredEmbeddingBag.from_pretrained(weight, mode="sum", store=store) for weight in weights
    ]
    collection = Collection(modules)
    rows = torch.arange(10)
    result = collection.embedding_bag([rows, rows], [rows, rows])
    assert collection.dtype is result.dtype is torch.float32
    assert torch.equal(result, torch.cat([weight.float() for weight in weights], 1))


def test_collection_of_a_converted_list_serves_one_call(store):
    bags = torch.nn.ModuleList(torch.nn.EmbeddingBag(20, 4, mode="sum") for _ in range(3))
    call = torch.randint(0, 20, (3, 6, 2))
    expected = torch.cat([bag(one) for bag, one in zip(bags, call, strict=True)], 1)
    ta.nn.convert(bags, store)
    collection = Collection(bags)
    assert collection.feature_names == ["0", "1", "2"]
    assert same_bits(collection.embedding_bag(list(call)), expected)


def test_collection_runs_under_torch_compile(store):
    collection = Collection(create_bags(store, [3, 5]))
    inputs = [torch.tensor([[1, 2]]), torch.tensor([[3, 4]])]
    compiled = torch.compile(lambda rows: collection.embedding_bag(rows) * 2, backend="eager")
    assert same_bits(compiled(inputs), collection.embedding_bag(inputs) * 2)


def test_collection_without_torchrec_names_the_raw_call(tmp_path):
    code = """
        import sys
        sys.modules["torchrec"] = None
        import torch, tieralloc as ta

        class Features:
            keys = lambda self: ["item"]
            values = lambda self: torch.tensor([1])
            offsets = lambda self: torch.tensor([0, 1])
            weights_or_none = lambda self: None

        store = ta.TieredStore(sys.argv[1], fast_rows=8)
        tables = [store.create_table("item", 5, 2)]
        collection = ta.nn.TieredEmbeddingBagCollection(tables, mode="sum")
        print(collection.embedding_bag(torch.tensor([1, 2]), torch.tensor([0])).tolist())
        collection(Features())
    """
    result = run_python(code, tmp_path / "s.tier")
    assert result.stdout == "[[0.0, 0.0]]\n"
    assert "ImportError: TieredEmbeddingBagCollection.forward" in result.stderr
    assert "pip install torchrec" in result.stderr
    assert "call embedding_bag(indices, offsets)" in result.stderr


ROWS = torch.tensor([1, 2, 3])
ZERO = torch.tensor([0])


@pytest.mark.parametrize(
    ("call", "got"),
    [
        ((ROWS, ZERO), "Tensor, Tensor"),
        (([ROWS, ROWS], [ZERO, ZERO]), "list, list"),
        ((ROWS,), "Tensor"),
        (({"t0": ROWS},), "dict"),
    ],
)
def test_collection_called_with_tensors_names_embedding_bag(store, call, got):
    collection = Collection(create_bags(store, [3, 5]))
    with pytest.raises(TypeError, match=rf"KeyedJaggedTensor, got {got}; .*embedding_bag\("):
        collection(*call)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"feature_names": ["a"]}, "expected 2 entries"),
        ({"feature_names": "ab"}, "expected 2 entries"),
        ({"feature_names": ["a", ["b", "b"]]}, "table 't1'"),
        ({"feature_names": ["a", []]}, "table 't1'"),
        ({"mode": "max"}, r"\['max', 'sum'\]"),
        ({"mode": "median"}, "'median'"),
    ],
)
def test_collection_refuses_options_that_do_not_match(store, options, named):
    modules = create_bags(store, [3, 5])
    with pytest.raises(ValueError, match=named):
        Collection(modules, **options)


def test_collection_refuses_tables_without_a_common_call(store):
    (module,) = create_bags(store, [3])
    double = store.create_table("double", 5, 3, "float64")
    with pytest.raises(ValueError, match="float64 for all or none"):
        Collection([module, double])
    with pytest.raises(ValueError, match="at least one table"):
        Collection([])
    with new_store(fast_rows=16) as other, pytest.raises(ValueError, match="one store"):
        Collection({"a": module, "b": create_bags(other, [3])[0]})
    with pytest.raises(TypeError, match="got str"):
        Collection(["t0"])
    with pytest.raises(ValueError, match="mode: a Table has none"):
        Collection([double])
    with pytest.raises(ValueError, match=r"\['t0'\] repeatedly; .*feature_names"):
        Collection([module, module], feature_names=["a", "b"])


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        ((ROWS, ROWS - 1), ValueError, "a multiple of 2 tables"),
        ((ROWS, None), ValueError, "offsets: expected"),
        ((ROWS[None], None), ValueError, r"\(1, 3\)"),
        ((ROWS, torch.tensor([0, 4])), ValueError, "offsets"),
        ((ROWS * 7, torch.tensor([0, 1])), IndexError, "'t1'.* got 21"),
        (([ROWS], [ZERO]), ValueError, "indices: expected 2 tensors.* got 1"),
        (([ROWS, ROWS], [ZERO]), ValueError, "offsets: expected 2 tensors"),
        (([ROWS, ROWS], [ZERO, ROWS - 1]), ValueError, "'t1': expected 1 bags.* got 3"),
        (([ROWS, ROWS], [ZERO, ROWS[:1]]), ValueError, r"'t1': expected offsets\[0\]"),
        (([ROWS, ROWS], [torch.tensor([0, 4])] * 2), ValueError, r"'t0': .*\[-1\] .*got 4"),
        (([ROWS, ROWS], [torch.tensor([0, 2, 1])] * 2), ValueError, "below the one before"),
        (([ROWS, ROWS], [ZERO, ZERO], [torch.ones(3), None]), ValueError, "weights for 1"),
        (([ROWS.float(), ROWS], [ZERO, ZERO]), TypeError, "float32"),
    ],
)
def test_collection_refuses_invalid_calls_before_lookups(store, call, error, named):
    collection = Collection(create_bags(store, [3, 5]))
    with pytest.raises(error, match=named):
        collection.embedding_bag(*call)
    assert store.stats().lookups == 0


def test_collection_has_no_parameters(store):
    collection = Collection(create_bags(store, [3, 5]))
    assert list(collection.parameters()) == []
    assert set(ta.nn.references(collection.state_dict())) == {
        f"embedding_bags.{name}" for name in collection.embedding_bags
    }
    with pytest.raises(RuntimeError, match="inference only"):
        collection.requires_grad_()
    weights = torch.ones(6, requires_grad=True)
    with pytest.raises(RuntimeError, match="inference only"):
        collection.embedding_bag(ROWS.repeat(2), torch.tensor([0, 3]), weights)
    assert "2 features, 8 columns, mode='sum'" in repr(collection)
