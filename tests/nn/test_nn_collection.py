"""A collection of bags serves in one call what its modules serve one by one."""

import copy

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, bag_calls, rows_of, same_bits  # noqa: E402

TieredEmbeddingBag = ta.nn.TieredEmbeddingBag
Collection = ta.nn.TieredEmbeddingBagCollection


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


def bags_of(store, dims, dtype=torch.float32, **options):
    options = {"mode": "sum", **options}
    return [
        TieredEmbeddingBag.from_pretrained(
            rows_of(10 + dim, dim, dtype, seed=dim), store=store, name=f"t{i}", **options
        )
        for i, dim in enumerate(dims)
    ]


@settings(max_examples=80)
@given(data=st.data())
def test_it_returns_what_its_modules_return_side_by_side(data):
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
        modules = bags_of(store, dims, dtype, **options)
        collection = Collection(modules)
        inputs, offsets, weights = zip(*calls, strict=True)
        result = collection(inputs, offsets, weights if weighted else None)
        assert result.shape == (number, sum(dims))
        for name, module, one in zip(collection.feature_names, modules, calls, strict=True):
            assert same_bits(collection.split(result)[name], module(*one))


def test_one_tensor_of_all_features_is_served_in_one_call(store):
    modules = bags_of(store, [3, 5])
    indices = torch.tensor([1, 2, 3, 4, 4, 5])
    store.reset_stats()
    result = Collection(modules)(indices, torch.tensor([0, 2, 2, 3, 6]))
    assert store.stats().calls == 1
    first = modules[0](indices[:2], torch.tensor([0, 2]))
    second = modules[1](indices[2:], torch.tensor([0, 1]))
    assert same_bits(result, torch.cat([first, second], 1))


def test_indices_behind_the_last_bag_are_left_out(store):
    modules = bags_of(store, [3, 5], include_last_offset=True)
    inputs = [torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6, 7])]
    offsets = [torch.tensor([0, 1, 2]), torch.tensor([0, 0, 3])]
    expected = [module(*one) for module, *one in zip(modules, inputs, offsets, strict=True)]
    assert same_bits(Collection(modules)(inputs, offsets), torch.cat(expected, 1))


def test_tables_do_as_well_as_modules_and_may_stand_for_several_features(store):
    (module,) = bags_of(store, [3])
    collection = Collection([module.table, module.table], feature_names=["seen", "bought"])
    indices = torch.tensor([1, 2, 3])
    result = collection.split(collection(indices, torch.tensor([0, 2, 3])))
    assert same_bits(result["seen"], module(indices[None, :2]))
    assert same_bits(result["bought"], module(indices[None, 2:]))


def test_16_and_32_bit_tables_have_a_result_of_32_bits(store):
    weights = [rows_of(10, 3, torch.bfloat16), rows_of(10, 2)]
    modules = [
        TieredEmbeddingBag.from_pretrained(weight, mode="sum", store=store) for weight in weights
    ]
    collection = Collection(modules)
    rows = torch.arange(10)
    result = collection([rows, rows], [rows, rows])
    assert collection.dtype is result.dtype is torch.float32
    assert torch.equal(result, torch.cat([weight.float() for weight in weights], 1))


def test_a_converted_models_list_of_bags_becomes_one_call(store):
    bags = torch.nn.ModuleList(torch.nn.EmbeddingBag(20, 4, mode="sum") for _ in range(3))
    call = torch.randint(0, 20, (3, 6, 2))
    expected = torch.cat([bag(one) for bag, one in zip(bags, call, strict=True)], 1)
    ta.nn.convert(bags, store)
    collection = Collection(bags)
    assert collection.feature_names == ["0", "1", "2"]
    assert same_bits(collection(list(call)), expected)


def test_it_works_under_torch_compile(store):
    collection = Collection(bags_of(store, [3, 5]))
    compiled = torch.compile(torch.nn.Sequential(collection), backend="eager")
    inputs = [torch.tensor([[1, 2]]), torch.tensor([[3, 4]])]
    assert same_bits(compiled(inputs), collection(inputs))


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"feature_names": ["a"]}, ValueError, "expected 2, one a table"),
        ({"feature_names": ["a", "a"]}, ValueError, "each another"),
        ({"mode": "max"}, ValueError, r"modes are \['max', 'sum'\]"),
    ],
)
def test_options_that_do_not_fit_its_tables_are_named(store, options, error, named):
    modules = bags_of(store, [3, 5])
    with pytest.raises(error, match=named):
        Collection(modules, **options)


def test_tables_without_a_common_result_are_refused(store):
    (module,) = bags_of(store, [3])
    double = store.create_table("double", 5, 3, "float64")
    with pytest.raises(ValueError, match="no common result"):
        Collection([module, double])
    with pytest.raises(ValueError, match="one store"):
        Collection([])
    with new_store(fast_rows=16) as other, pytest.raises(ValueError, match="one store"):
        Collection([module, *bags_of(other, [3])])
    with pytest.raises(TypeError, match="have a str"):
        Collection(["t0"])
    with pytest.raises(ValueError, match="mode is 'median'"):
        Collection([double], mode="median")


ROWS = torch.tensor([1, 2, 3])
ZERO = torch.tensor([0])


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        ((ROWS, torch.tensor([0, 3])), ValueError, "do not share out"),
        ((ROWS, None), ValueError, "no offsets"),
        ((ROWS[None], None), ValueError, r"\(1, 3\)"),
        ((ROWS, torch.tensor([0, 1, 4])), ValueError, "beyond the 3"),
        ((ROWS * 7, torch.tensor([0, 1, 3])), IndexError, "index 21 .*'t1'"),
        (([ROWS], [ZERO]), ValueError, "length 1, expected 2"),
        (([ROWS, ROWS], [ZERO]), ValueError, "offsets have length 1"),
        (([ROWS, ROWS], [ZERO, ROWS - 1]), ValueError, "'t1' has 3 bags, expected 1"),
        (([ROWS, ROWS], [ZERO, ROWS[:1]]), ValueError, r"offsets\[0\] of feature 't1'"),
        (([ROWS, ROWS], [torch.tensor([0, 4])] * 2), ValueError, r"offsets\[-1\] .*'t0' is 4"),
        (([ROWS, ROWS], [torch.tensor([0, 2, 1])] * 2), ValueError, "must ascend"),
        (([ROWS, ROWS], [ZERO, ZERO], [torch.ones(3), None]), ValueError, "1 features"),
        (([ROWS.float(), ROWS], [ZERO, ZERO]), TypeError, "float32"),
    ],
)
def test_calls_that_make_no_sense_say_what_was_expected(store, call, error, named):
    collection = Collection(bags_of(store, [3, 5]))
    with pytest.raises(error, match=named):
        collection(*call)
    assert store.stats().lookups == 0


def test_it_has_no_parameters_and_cannot_be_copied(store):
    collection = Collection(bags_of(store, [3, 5]))
    assert list(collection.parameters()) == list(collection.state_dict()) == []
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(collection)
    with pytest.raises(RuntimeError, match="inference only"):
        collection.requires_grad_()
    weights = torch.ones(6, requires_grad=True)
    with pytest.raises(RuntimeError, match="inference only"):
        collection(ROWS.repeat(2), torch.tensor([0, 3, 6]), weights)
    assert "2 features, 8 columns, mode='sum'" in repr(collection)
