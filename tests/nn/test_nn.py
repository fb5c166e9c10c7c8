"""The torch modules on one table return the results of torch.nn."""

import doctest
import inspect
import sys
import threading
import tracemalloc

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store, run_python

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, BagCall, bag_calls, random_rows, same_bits  # noqa: E402

TieredEmbedding = ta.nn.TieredEmbedding
TieredEmbeddingBag = ta.nn.TieredEmbeddingBag


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


def bag_pair(store, weight, **options):
    """Return torch's module and ours, with the same rows."""
    theirs = torch.nn.EmbeddingBag.from_pretrained(weight, **options)
    return theirs, TieredEmbeddingBag.from_pretrained(weight, **options, store=store)


RECORDS = {"Conversion", "ModuleConversion"}


@pytest.mark.parametrize("name", [name for name in ta.nn.__all__ if name not in RECORDS])
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = getattr(ta.nn, name)
    scope = vars(sys.modules[value.__module__])
    (test,) = doctest.DocTestFinder(recurse=False).find(value, name, globs=scope)
    assert test.examples
    output = []
    assert doctest.DocTestRunner().run(test, out=output.append).failed == 0, "".join(output)


# `_freeze` has another default: modules here are for inference only.
@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag"])
def test_modules_have_the_parameters_of_torch(name):
    theirs, ours = getattr(torch.nn, name), getattr(ta.nn, f"Tiered{name}")
    for function in ("__init__", "from_pretrained", "forward"):
        expected = inspect.signature(getattr(theirs, function)).parameters.items()
        actual = inspect.signature(getattr(ours, function)).parameters.items()
        defaults = {key: value.default for key, value in actual if key not in ("store", "name")}
        changed = {"_freeze": True} if "_freeze" in defaults else {}
        assert defaults == {key: value.default for key, value in expected} | changed
        assert list(defaults) == [key for key, _ in expected]


@settings(max_examples=80)
@given(data=st.data())
def test_bag_float32_sums_equal_torch_bit_for_bit(data):
    rows, dim = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 130))
    weighted, last = data.draw(st.booleans()), data.draw(st.booleans())
    # Only with both weights and padding does torch round products before it adds them.
    padding = None if weighted else data.draw(st.none() | st.integers(-rows, rows - 1))
    call = data.draw(bag_calls(rows, torch.float32, weighted=weighted, include_last_offset=last))
    options = {"mode": "sum", "padding_idx": padding, "include_last_offset": last}
    with new_store(fast_rows=16) as store, torch.set_grad_enabled(data.draw(st.booleans())):
        theirs, ours = bag_pair(store, random_rows(rows, dim), **options)
        assert same_bits(ours(*call), theirs(*call))
        assert same_bits(ours(*call), theirs(*call)), "resident rows differ"


@settings(max_examples=80)
@given(data=st.data())
def test_bag_modes_and_dtypes_equal_torch_to_rounding(data):
    rows, dim = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 130))
    mode, dtype = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(DTYPES))
    weighted = mode == "sum" and data.draw(st.booleans())
    last = data.draw(st.booleans())
    padding = data.draw(st.none() | st.integers(-rows, rows - 1))
    call = data.draw(bag_calls(rows, dtype, weighted=weighted, include_last_offset=last))
    options = {"mode": mode, "padding_idx": padding, "include_last_offset": last}
    weight = random_rows(rows, dim, dtype)
    with new_store(fast_rows=16) as store:
        ours = TieredEmbeddingBag.from_pretrained(weight, **options, store=store)(*call)
    # torch pools 16-bit rows in 16 bits on some paths; float64 is exact enough for all dtypes.
    theirs = torch.nn.EmbeddingBag.from_pretrained(weight.double(), **options)
    weights = None if call.weights is None else call.weights.double()
    expected = theirs(call.input, call.offsets, weights)
    assert ours.dtype == dtype
    one_rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(
        ours.double(), expected, rtol=one_rounding, atol=100 * torch.finfo(wide(dtype)).eps
    )


def wide(dtype):
    return torch.float64 if dtype is torch.float64 else torch.float32


@settings(max_examples=50)
@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dim=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    integer=st.sampled_from([torch.int32, torch.int64]),
    padding=st.none() | st.integers(-20, 19),
    seed=st.integers(0, 100),
)
def test_embedding_equals_torch_bit_for_bit(shape, dim, dtype, integer, padding, seed):
    weight = random_rows(20, dim, dtype, seed)
    weight[3] = float("nan")
    weight[4] = -float("inf")
    generator = torch.Generator().manual_seed(seed)
    input = torch.randint(0, 20, shape, generator=generator, dtype=integer)
    with new_store(fast_rows=16) as store:
        ours = TieredEmbedding.from_pretrained(weight, padding_idx=padding, store=store)
        theirs = torch.nn.Embedding.from_pretrained(weight, padding_idx=padding)
        assert ours.padding_idx == theirs.padding_idx
        assert same_bits(ours(input), theirs(input))


def test_bag_strided_inputs_equal_torch(store):
    theirs, ours = bag_pair(store, random_rows(20, 5), mode="sum")
    input = torch.arange(40).reshape(20, 2)[::2].t() // 2
    weights = torch.rand(4, 20)[::2, ::2]
    assert same_bits(ours(input, None, weights), theirs(input, None, weights))
    column, offsets = torch.arange(60).reshape(20, 3)[:, 1] // 3, torch.arange(8)[::2]
    assert same_bits(ours(column, offsets), theirs(column, offsets))
    one = torch.tensor(3).expand(6)
    assert same_bits(ours(one, torch.tensor([0, 2])), theirs(one, torch.tensor([0, 2])))


def test_embedding_loads_strided_rows(store):
    weight = random_rows(9, 20).t()[::2]
    ours = TieredEmbedding.from_pretrained(weight, store=store)
    assert same_bits(ours(torch.arange(10)), weight)


def test_bag_nested_input_equals_torch(store):
    theirs, ours = bag_pair(store, random_rows(20, 5), mode="sum")
    bags = [torch.tensor([1, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([19])]
    input = torch.nested.nested_tensor(bags, layout=torch.jagged)
    assert same_bits(ours(input), theirs(input))


def test_bag_without_rows_gives_zeros(store):
    ours = TieredEmbeddingBag(5, 3, store=store)
    assert torch.equal(ours(torch.zeros(2, 0, dtype=torch.int64)), torch.zeros(2, 3))
    empty = torch.tensor([], dtype=torch.int64)
    assert ours(empty, empty).shape == (0, 3)
    assert torch.equal(ours(empty, torch.tensor([0, 0])), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_bag_of_16_bit_rows_accepts_float32_weights(store, dtype):
    ours = TieredEmbeddingBag.from_pretrained(random_rows(20, 5, dtype), mode="sum", store=store)
    call = BagCall(torch.tensor([3, 4]), torch.tensor([0]), torch.tensor([0.5, 2.0]))
    same = BagCall(call.input, call.offsets, call.weights.to(dtype))
    assert same_bits(ours(*call), ours(*same))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modules_copy_no_arguments(dtype, mode):
    rows, dim = 500, 256
    with new_store(fast_rows=rows) as store:
        weight = random_rows(rows, dim, dtype)
        bag = TieredEmbeddingBag.from_pretrained(weight, mode="sum", store=store)
        embedding = TieredEmbedding(rows, dim, store=store, name=bag.table.name)
        input, offsets = torch.arange(20_000) % rows, torch.arange(0, 20_000, 4)
        weights = torch.rand(20_000)
        with mode():
            bag(input, offsets, weights), embedding(input)  # scratch memory grows once
            # NumPy's memory is traced, torch's is not.
            tracemalloc.start()
            try:
                bag(input, offsets, weights)
                embedding(input)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < input.nbytes / 4


def test_embedding_results_do_not_share_memory(store):
    ours = TieredEmbedding.from_pretrained(random_rows(20, 5), store=store)
    with torch.inference_mode():
        first = ours(torch.tensor([1]))
        assert first.is_inference()
        kept = first.clone()
        ours(torch.tensor([2])).zero_()
        assert torch.equal(first, kept)
        assert torch.equal(ours(torch.tensor([1])), kept)


def test_modules_follow_default_device_and_dtype(store):
    with torch.device("meta"):
        ours = TieredEmbeddingBag(20, 5, mode="sum", store=store)
        input = torch.zeros(2, 3, dtype=torch.int64, device="cpu")
        assert ours(input).device.type == "cpu"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert TieredEmbedding(20, 5, store=store).dtype is torch.float64
    finally:
        torch.set_default_dtype(before)


def test_bag_called_by_threads_equals_torch(store):
    theirs, ours = bag_pair(store, random_rows(400, 16), mode="sum")
    wrong = []

    def serve(seed):
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            for _ in range(50):
                input = torch.randint(0, 400, (8, 5), generator=generator)
                if not same_bits(ours(input), theirs(input)):
                    wrong.append(input)

    threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bag_lookups_are_counted_and_recorded(store):
    ours = TieredEmbeddingBag(20, 5, store=store, name="item")
    with store.record() as recorder:
        ours(torch.tensor([[1, 2], [3, 3]]))
    assert recorder.to_trace().indices.tolist() == [1, 2, 3, 3]
    assert store.stats().lookups == 4


def test_embedding_returns_updated_rows(store):
    ours = TieredEmbedding(20, 2, store=store, name="item")
    store.table("item").update([7], torch.tensor([[1.5, 2.5]]))
    assert ours(torch.tensor(7)).tolist() == [1.5, 2.5]


def test_bag_on_existing_table_uses_its_rows(store):
    weight = random_rows(20, 5, torch.float16)
    TieredEmbedding.from_pretrained(weight, store=store, name="item")
    ours = TieredEmbeddingBag(20, 5, mode="max", store=store, name="item")
    assert ours.dtype is torch.float16
    assert same_bits(ours(torch.arange(20).reshape(20, 1)), weight)


def test_embedding_without_name_creates_zero_table(store):
    modules = [TieredEmbedding(20, 5, store=store) for _ in range(3)]
    assert len(store.tables) == len({module.table.name for module in modules}) == 3
    assert not modules[0](torch.arange(20)).any()


TABLE = {"num_embeddings": 20, "embedding_dim": 5}


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"max_norm": 1.0}, ValueError, "max_norm: .* got 1.0"),
        ({"device": "meta"}, ValueError, "device: .* got meta"),
        ({"device": "cuda:0"}, ValueError, "device: .* got cuda:0"),
        ({"dtype": torch.int8}, ValueError, "torch.int8"),
        ({"dtype": torch.float8_e4m3fn}, ValueError, "torch.float8_e4m3fn"),
        ({"padding_idx": 20}, ValueError, "padding_idx: .* got 20"),
        ({"padding_idx": -21}, ValueError, "padding_idx: .* got -21"),
        ({"_weight": torch.zeros(20, 4)}, ValueError, r"\(20, 5\), got \(20, 4\)"),
        ({"_weight": torch.zeros(20, 5, device="meta")}, ValueError, "on meta"),
        ({"_weight": torch.zeros(20, 5).to_sparse()}, ValueError, "sparse"),
        ({"num_embeddings": 0}, ValueError, "num_embeddings"),
        ({"store": "s.tier"}, TypeError, "store: .* str"),
        ({"name": "taken", "_weight": torch.zeros(20, 5)}, ValueError, "already has"),
        ({"name": "taken", "num_embeddings": 21}, ValueError, r"\(21, 5\), got \(20, 5\)"),
        ({"name": "taken", "dtype": torch.float64}, ValueError, "got float32"),
    ],
)
@pytest.mark.parametrize("kind", [TieredEmbedding, TieredEmbeddingBag])
def test_modules_refuse_arguments_before_creating_tables(store, kind, options, error, named):
    store.create_table("taken", 20, 5)
    with pytest.raises(error, match=named):
        kind(**{**TABLE, "store": store, **options})
    assert list(store.tables) == ["taken"]


def test_bag_accepts_training_options(store):
    ours = TieredEmbeddingBag(
        20, 5, sparse=True, scale_grad_by_freq=True, norm_type=1.0, store=store
    )
    assert (ours.sparse, ours.scale_grad_by_freq, ours.norm_type) == (True, True, 1.0)


LONGS = torch.tensor([1, 2, 3])


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (BagCall([1], None, None), TypeError, "input: .* got .*list"),
        (BagCall(LONGS.float(), LONGS, None), TypeError, "float32"),
        (BagCall(LONGS.short(), LONGS, None), TypeError, "int16"),
        (BagCall(LONGS.to("meta"), LONGS, None), ValueError, "on meta"),
        (BagCall(LONGS.reshape(1, 1, 3), None, None), ValueError, r"\(1, 1, 3\)"),
        (BagCall(LONGS, None, None), ValueError, "offsets: expected"),
        (BagCall(LONGS, LONGS.reshape(1, 3), None), ValueError, r"\(1, 3\)"),
        (BagCall(LONGS, LONGS.float(), None), TypeError, "offsets: .*float32"),
        (BagCall(LONGS.reshape(1, 3), LONGS, None), ValueError, "two-dimensional"),
        (BagCall(LONGS, torch.tensor([1]), None), ValueError, r"offsets\[0\]"),
        (BagCall(LONGS, torch.tensor([0, 2, 1]), None), ValueError, "below the one before"),
        (BagCall(LONGS, torch.tensor([0, 4]), None), ValueError, "offsets"),
        (BagCall(LONGS * 10, torch.tensor([0]), None), IndexError, "'item'.* got 20"),
        (BagCall(-LONGS, torch.tensor([0]), None), IndexError, "'item'.* got -1"),
        (BagCall(LONGS, torch.tensor([0]), torch.rand(2)), ValueError, r"\(3,\), got \(2,\)"),
        (BagCall(LONGS, torch.tensor([0]), torch.rand(3).half()), TypeError, "float16"),
        (BagCall(LONGS, torch.tensor([0]), [1.0, 1.0, 1.0]), TypeError, "got .*list"),
    ],
)
def test_bag_refuses_invalid_calls_before_lookups(store, call, error, named):
    ours = TieredEmbeddingBag(20, 5, mode="sum", store=store, name="item")
    with pytest.raises(error, match=named):
        ours(*call)
    assert store.stats().lookups == 0


def test_bag_refuses_unknown_mode(store):
    with pytest.raises(ValueError, match=r"mode: .* got 'median'"):
        TieredEmbeddingBag(20, 5, mode="median", store=store)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_bag_refuses_weights_except_in_sums(store, mode):
    ours = TieredEmbeddingBag(20, 5, mode=mode, store=store)
    with pytest.raises(NotImplementedError, match="only mode 'sum'"):
        ours(LONGS, torch.tensor([0]), torch.rand(3))


def test_bag_with_include_last_offset_needs_one(store):
    ours = TieredEmbeddingBag(20, 5, include_last_offset=True, store=store)
    with pytest.raises(ValueError, match="end of the last bag"):
        ours(LONGS, LONGS[:0])


@pytest.mark.parametrize(
    ("input", "error"),
    [(LONGS.double(), TypeError), (LONGS.to("meta"), ValueError), ([1], TypeError)],
)
def test_embedding_refuses_other_inputs_than_cpu_integers(store, input, error):
    with pytest.raises(error, match=r"input: .* got"):
        TieredEmbedding(20, 5, store=store)(input)


def test_modules_refuse_requests_for_gradients(store):
    weight = random_rows(20, 5)
    for kind in (TieredEmbedding, TieredEmbeddingBag):
        with pytest.raises(RuntimeError, match="inference only"):
            kind.from_pretrained(weight, freeze=False, store=store)
    ours = TieredEmbeddingBag.from_pretrained(weight, mode="sum", store=store)
    with pytest.raises(RuntimeError, match="inference only"):
        ours.requires_grad_()
    assert ours.requires_grad_(False) is ours
    weights = torch.rand(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="inference only"):
        ours(LONGS, torch.tensor([0]), weights)
    with torch.no_grad():
        assert same_bits(
            ours(LONGS, torch.tensor([0]), weights),
            ours(LONGS, torch.tensor([0]), weights.detach()),
        )


def test_bag_lets_other_layers_train(store):
    ours = TieredEmbeddingBag.from_pretrained(random_rows(20, 5), store=store)
    model = torch.nn.Sequential(ours, torch.nn.Linear(5, 1)).train()
    model(LONGS.reshape(1, 3)).sum().backward()
    assert ours.training
    assert model[1].weight.grad is not None
    assert [name for name, _ in model.named_parameters()] == ["1.weight", "1.bias"]


def test_embedding_weight_error_names_table_calls(store):
    ours = TieredEmbedding(20, 5, store=store)
    assert not hasattr(ours, "weight")
    with pytest.raises(AttributeError, match=r"table\.lookup"):
        ours.weight  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'bias'"):
        ours.bias  # noqa: B018
    assert list(ours.state_dict()) == ["_extra_state"]


def test_embedding_on_closed_store_raises(store):
    ours = TieredEmbedding(20, 5, store=store)
    store.close()
    with pytest.raises(ValueError, match="closed"):
        ours(LONGS)


def test_modules_repr_shows_arguments(store):
    bag = TieredEmbeddingBag(20, 5, mode="sum", padding_idx=-1, store=store, name="item")
    assert repr(bag) == (
        "TieredEmbeddingBag(20, 5, mode='sum', padding_idx=19, dtype=torch.float32, table='item')"
    )
    embedding = TieredEmbedding(20, 5, store=store, name="item")
    assert repr(embedding) == "TieredEmbedding(20, 5, dtype=torch.float32, table='item')"


class Scorer(torch.nn.Module):
    def __init__(self, bags):
        super().__init__()
        self.bags = bags
        self.top = torch.nn.Linear(5, 1)

    def forward(self, input, offsets):
        return self.top(self.bags(input * 1, offsets)).relu()


def test_bag_in_compiled_model_equals_eager(store):
    model = Scorer(bag_pair(store, random_rows(20, 5), mode="sum")[1])
    compiled = torch.compile(model, backend="eager")
    with torch.inference_mode():
        for size in (5, 7, 7, 3):
            call = torch.arange(size), torch.tensor([0, 1, 2])
            assert same_bits(compiled(*call), model(*call))


def test_nn_without_torch_names_the_extra():
    result = run_python("import sys; sys.modules['torch'] = None; import tieralloc as ta; ta.nn")
    assert "ImportError: tieralloc.nn needs torch: pip install tieralloc[torch]" in result.stderr
