"""A converted model gives the same outputs, with its embedding rows in a store."""

import gc
import os
import re
import resource
import weakref

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, convert, random_rows, same_bits  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


class Dlrm(nn.Module):
    """The structure of Meta's DLRM: a bag per feature, dense layers, pairwise products."""

    def __init__(self, rows, dim):
        super().__init__()
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, dim, mode="sum", sparse=True) for n in rows)
        self.bottom = nn.Sequential(nn.Linear(4, dim), nn.ReLU())
        pairs = len(rows) * (len(rows) + 1) // 2
        self.top = nn.Sequential(nn.Linear(dim + pairs, 1), nn.Sigmoid())

    def forward(self, dense, offsets, indices):
        x = self.bottom(dense)
        bags = [emb(i, o) for emb, i, o in zip(self.emb_l, indices, offsets, strict=True)]
        stacked = torch.stack([x, *bags], 1)
        products = stacked @ stacked.transpose(1, 2)
        i, j = torch.tril_indices(len(bags) + 1, len(bags) + 1, -1)
        return self.top(torch.cat([x, products[:, i, j]], 1))


def test_convert_dlrm_keeps_scores_bit_for_bit(store):
    torch.manual_seed(0)
    rows = [7, 1000, 60]
    model = Dlrm(rows, 16).eval()
    batch = 33
    indices = [torch.randint(0, n, (batch * 3,)) for n in rows]
    offsets = [torch.randint(0, batch * 3, (batch,)).sort()[0] for _ in rows]
    for starts in offsets:
        starts[0] = 0
    dense = torch.rand(batch, 4)
    with torch.inference_mode():
        expected = model(dense, offsets, indices)
        assert convert(model, store) is model
        assert same_bits(model(dense, offsets, indices), expected)
    assert list(store.tables) == ["emb_l.0", "emb_l.1", "emb_l.2"]
    assert not any(key.startswith("emb_l") and "weight" in key for key in model.state_dict())
    assert store.stats().on_demand_fetches > 0


@st.composite
def nests(draw, depth=0):
    """Draw models of embeddings in nested lists and dicts."""
    kinds = ["embedding", "bag", "linear"] + ["list", "dict"] * (depth < 3)
    kind = draw(st.sampled_from(kinds))
    rows, dim = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    dtype = draw(st.sampled_from(DTYPES))
    if kind == "embedding":
        return nn.Embedding(rows, dim, dtype=dtype, padding_idx=draw(st.none() | st.just(0)))
    if kind == "bag":
        return nn.EmbeddingBag(rows, dim, mode=draw(st.sampled_from(MODES)), dtype=dtype)
    if kind == "linear":
        return nn.Linear(3, 2)
    children = draw(st.lists(nests(depth + 1), max_size=3))
    if kind == "list":
        return nn.ModuleList(children)
    return nn.ModuleDict({f"key{i}": child for i, child in enumerate(children)})


def leaves(model):
    return {path: child for path, child in model.named_modules() if not list(child.children())}


@settings(max_examples=50)
@given(model=nests(), training=st.booleans())
def test_convert_replaces_all_nested_embeddings_only(model, training):
    model = nn.ModuleDict({"root": model, "last": nn.Embedding(2, 3)}).train(training)
    before = leaves(model)
    with new_store(fast_rows=200) as store:
        assert convert(model, store) is model
        after = leaves(model)
        assert after.keys() == before.keys()
        for path, old in before.items():
            new = after[path]
            assert new.training == training
            if isinstance(old, nn.Embedding):
                assert type(new) is ta.nn.TieredEmbedding
                rows = torch.arange(old.num_embeddings)
                assert same_bits(new(rows), old(rows))
            elif isinstance(old, nn.EmbeddingBag):
                assert type(new) is ta.nn.TieredEmbeddingBag
                rows = torch.arange(old.num_embeddings)[:, None]
                assert same_bits(new(rows), old(rows) + 0)
            else:
                assert new is old


def test_convert_keeps_module_options(store):
    model = nn.Sequential(
        nn.Embedding(20, 5, padding_idx=-1, scale_grad_by_freq=True),
        nn.EmbeddingBag(20, 5, mode="max", include_last_offset=True, padding_idx=3, norm_type=1.0),
    )
    attributes = [
        {key: getattr(child, key) for key in type(child).__constants__} for child in model
    ]
    convert(model, store)
    for child, expected in zip(model, attributes, strict=True):
        assert {key: getattr(child, key) for key in expected} == expected


def test_convert_root_embedding_returns_new_module(store):
    weight = random_rows(20, 5)
    old = nn.Embedding.from_pretrained(weight)
    new = convert(old, store)
    assert type(new) is ta.nn.TieredEmbedding
    assert type(old) is nn.Embedding
    assert same_bits(new(torch.arange(20)), weight)
    assert list(store.tables) == ["embedding"]
    assert convert(nn.Embedding(3, 2), store, prefix="other").table.name == "other"
    assert convert(nn.Embedding(3, 2), store, names={"": "third"}).table.name == "third"


def test_convert_module_in_two_places_creates_one_table(store):
    shared = nn.Embedding(20, 5)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.Identity())})
    convert(model, store)
    assert model["a"] is model["b"][0]
    assert type(model["a"]) is ta.nn.TieredEmbedding
    assert list(store.tables) == ["a"]


def test_convert_shared_weight_creates_one_table(store):
    one, other = nn.EmbeddingBag(20, 5, mode="sum"), nn.EmbeddingBag(20, 5, mode="max")
    other.weight = one.weight
    model = nn.ModuleList([one, other])
    input = torch.tensor([[1, 2, 3]])
    expected = [child(input) for child in model]
    convert(model, store)
    assert list(store.tables) == ["0"]
    assert all(map(torch.equal, [child(input) for child in model], expected))


def test_convert_keeps_weight_of_tied_output_layer(store):
    model = nn.ModuleDict({"embed": nn.Embedding(20, 5), "head": nn.Linear(5, 20, bias=False)})
    model["head"].weight = model["embed"].weight
    input = torch.tensor([[1, 2], [3, 4]])
    expected = model["head"](model["embed"](input))
    convert(model, store)
    assert list(model.state_dict()) == ["embed._extra_state", "head.weight"]
    assert same_bits(model["head"](model["embed"](input)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_convert_keeps_model_dtype(store, dtype):
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 3)).to(dtype)
    input = torch.arange(20)
    expected = model(input)
    convert(model, store)
    assert store.tables["0"].dtype == str(dtype).removeprefix("torch.")
    assert same_bits(model(input), expected)


def test_convert_keeps_hooks_and_attributes(store):
    model = nn.Sequential(nn.Embedding(20, 5))
    input = torch.arange(20)
    plain = model(input)
    seen = []
    model[0].register_forward_pre_hook(lambda module, args: seen.append(type(module)))
    handle = model[0].register_forward_hook(
        lambda module, args, kwargs, output: output + 1, with_kwargs=True
    )
    model[0].feature = "item"
    expected = model(input)
    convert(model, store)
    assert same_bits(model(input), expected)
    assert seen == [nn.Embedding, ta.nn.TieredEmbedding]
    assert model[0].feature == "item"
    handle.remove()
    assert same_bits(model(input), plain)


def test_convert_compiled_module_serves_from_store(store):
    model = nn.Sequential(nn.Embedding(20, 5))
    model[0].compile(backend="eager")
    convert(model, store)
    store.table("0").update([3], torch.ones(1, 5))
    assert torch.equal(model(torch.tensor([3])), torch.ones(1, 5))


def test_convert_frees_weights(store):
    model = nn.Sequential(nn.EmbeddingBag(1000, 64))
    weight = weakref.ref(model[0].weight)
    convert(model, store)
    gc.collect()
    assert weight() is None


def test_convert_twice_raises_and_changes_nothing(store):
    model = convert(nn.Sequential(nn.Embedding(20, 5)), store)
    first = model[0]
    with pytest.raises(ValueError, match="it is converted already"):
        convert(model, store)
    assert model[0] is first


class Renamed(nn.Embedding):
    """A subclass that redefines only its construction."""

    def __init__(self, rows):
        super().__init__(rows, 5, padding_idx=0)

    def reset_parameters(self):
        nn.init.ones_(self.weight)


class Shifted(nn.Embedding):
    def forward(self, input):
        return super().forward(input) + 1


class Described(nn.Embedding):
    @property
    def device(self):
        return self.weight.device


def test_convert_replaces_subclass_with_own_construction(store):
    model = convert(nn.Sequential(Renamed(20)), store)
    assert type(model[0]) is ta.nn.TieredEmbedding
    assert torch.equal(model(torch.arange(20)), torch.ones(20, 5))


@pytest.mark.parametrize("kind", [Shifted, Described])
def test_convert_warns_of_subclass_with_own_behaviour(store, kind):
    model = nn.ModuleDict({"odd": kind(20, 5), "plain": nn.Embedding(20, 5)})
    with pytest.warns(UserWarning, match=rf"'odd': a {kind.__name__} redefines"):
        convert(model, store)
    assert type(model["odd"]) is kind
    assert list(store.tables) == ["plain"]


def test_convert_warns_of_replaced_forward(store):
    model = nn.Sequential(nn.Embedding(20, 5), nn.Embedding(20, 5))
    model[0].forward = lambda input: input
    with pytest.warns(UserWarning, match="'0'"):
        convert(model, store)
    assert type(model[0]) is nn.Embedding


def test_convert_warns_of_parametrized_module(store):
    model = nn.Sequential(nn.Embedding(20, 5), nn.EmbeddingBag(20, 5))
    nn.utils.parametrizations.weight_norm(model[0])
    input = torch.arange(20)
    expected = model[0](input)
    with pytest.warns(UserWarning, match="ParametrizedEmbedding"):
        convert(model, store)
    assert same_bits(model[0](input), expected)


def quantised():
    return torch.ao.nn.quantized.EmbeddingBag(20, 8, dtype=torch.quint8)


def pruned():
    module = nn.Embedding(20, 5)
    module.register_buffer("mask", torch.ones(20, 5))
    return module


def lazy():
    module = nn.Embedding(20, 5)
    module.weight = nn.UninitializedParameter()
    return module


def sparse():
    module = nn.Embedding(20, 5)
    module.weight = nn.Parameter(torch.zeros(20, 5).to_sparse())
    return module


class Wrapped(torch.Tensor):
    pass


def wrapped():
    module = nn.Embedding(20, 5)
    module.weight = nn.Parameter(torch.zeros(20, 5).as_subclass(Wrapped))
    return module


KEPT = {
    "max_norm": (lambda: nn.EmbeddingBag(20, 5, max_norm=1.0), "max_norm: .* got 1.0"),
    "meta": (lambda: nn.Embedding(20, 5, device="meta"), "on meta"),
    "float8": (
        lambda: nn.Embedding(2, 5, _weight=torch.zeros(2, 5).to(torch.float8_e5m2), _freeze=True),
        "torch.float8_e5m2",
    ),
    "no rows": (lambda: nn.Embedding(0, 5), r"\(0, 5\)"),
    "quantised": (quantised, "quantised EmbeddingBag"),
    "scripted": (lambda: torch.jit.script(nn.Embedding(20, 5)), "scripted Embedding"),
    "buffers": (pruned, "nothing else, got weight, mask"),
    "lazy": (lazy, "UninitializedParameter"),
    "sparse": (sparse, "sparse"),
    "tensor subclass": (wrapped, "Wrapped"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantized tensor creation")
@pytest.mark.parametrize(("make", "named"), KEPT.values(), ids=KEPT)
def test_convert_keeps_module_and_says_why(store, make, named):
    model = nn.ModuleDict({"good": nn.Embedding(20, 5), "inner": nn.ModuleList([make()])})
    old = model["inner"][0]
    with pytest.warns(UserWarning, match=rf"not converted: 'inner\.0': .*{named}"):
        conversion = ta.nn.convert(model, store)
    assert [entry.path for entry in conversion.modules] == ["good", "inner.0"]
    assert [entry.table for entry in conversion.modules] == ["good", None]
    assert re.search(rf"^inner\.0 .* no: .*{named}", str(conversion), re.MULTILINE)
    assert model["inner"][0] is old
    assert list(store.tables) == ["good"]


def test_convert_of_nothing_names_all_reasons_and_changes_nothing(store):
    model = nn.ModuleList([nn.Embedding(20, 5, max_norm=1.0), nn.Embedding(20, 5, device="meta")])
    before = list(model)
    with pytest.raises(ValueError, match=r"nothing to convert.*'0': max_norm.*'1': rows: .* meta"):
        convert(model, store)
    assert list(model) == before
    assert not store.tables
    with pytest.raises(ValueError, match="got a Linear without embeddings"):
        convert(nn.Linear(2, 3), store)


class Positions(nn.Module):
    """An embedding that is not torch's: its name and its weights give it away."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(8, 5))


class PositionalEmbedding(Positions):
    pass


def test_convert_prints_a_line_per_embedding(store, capsys):
    shared = nn.Embedding(2000, 5)
    model = nn.Sequential(shared, PositionalEmbedding(), nn.EmbeddingBag(20, 8), shared)
    model[2].weight.requires_grad_(False)
    other = nn.Embedding(2000, 5)
    other.weight = shared.weight
    model.append(other)
    with pytest.warns(UserWarning, match="'1': a PositionalEmbedding of .* is not torch.nn"):
        conversion = ta.nn.convert(model, store)
    printed = capsys.readouterr().out
    assert printed == f"{conversion}\n"
    assert [line.split()[:6] for line in printed.splitlines()[:4]] == [
        ["module", "table", "dtype", "rows", "bytes", "converted"],
        ["0", "0", "float32", "2,000", "40.0", "kB"],
        ["1", "-", "-", "-", "160", "B"],
        ["2", "2", "float32", "20", "640", "B"],
    ]
    assert printed.endswith("3 of 4 embeddings converted: 40.6 kB of rows are in the store\n")
    assert conversion.num_bytes == 40_640
    assert conversion.model is model
    ta.nn.convert(nn.Embedding(3, 2), store, verbose=False)
    assert capsys.readouterr().out == ""


def test_conversion_used_as_model_names_the_model(store):
    conversion = ta.nn.convert(nn.Sequential(nn.Embedding(20, 5)), store)
    with pytest.raises(AttributeError, match=r"'eval'; .* in place .* `model` is the model"):
        conversion.eval()


def test_convert_refuses_arguments_of_other_types(store):
    with pytest.raises(TypeError, match=r"model: .* got a list"):
        convert([nn.Embedding(20, 5)], store)
    with pytest.raises(TypeError, match=r"store: .* got a str"):
        convert(nn.Embedding(20, 5), "s.tier")
    store.close()
    with pytest.raises(ValueError, match="closed"):
        convert(nn.Embedding(20, 5), store)


def test_convert_uses_given_table_names(store):
    model = nn.ModuleDict({"a": nn.Embedding(20, 5), "b": nn.Embedding(20, 5)})
    convert(model, store, prefix="left.", names={"b": "item"})
    assert list(store.tables) == ["left.a", "item"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"names": {"c": "item"}}, r"expected paths of .*, got \['c'\]"),
        ({"names": {"a": "item", "b": "item"}}, "name 'item' of its table is taken"),
        ({"names": {"a": "taken"}}, "load=False"),
        ({"names": {"a": ""}}, "1 to 191 bytes, got 0 bytes"),
        ({"prefix": "x" * 191}, "got 192 bytes"),
    ],
)
def test_convert_refuses_names_before_creating_tables(store, options, named):
    store.create_table("taken", 20, 5)
    model = nn.ModuleDict({"a": nn.Embedding(20, 5), "b": nn.Embedding(20, 5)})
    with pytest.raises(ValueError, match=named):
        convert(model, store, **options)
    assert list(store.tables) == ["taken"]
    assert type(model["a"]) is nn.Embedding


def test_convert_on_full_disk_leaves_model_unchanged(tmp_path):
    model = nn.ModuleList([nn.Embedding(1000, 16), nn.Embedding(100_000, 16)])
    before = list(model)
    path = tmp_path / "s.tier"
    with ta.TieredStore(path, fast_rows=200) as store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A file at its size limit fails in the same way as a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + (1 << 20), hard))
        try:
            with pytest.raises(OSError, match=r"s\.tier"):
                convert(model, store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(model) == before
        assert list(store.tables) == ["0"]
        convert(model, store, prefix="again.")
        assert type(model[1]) is ta.nn.TieredEmbedding


def test_convert_attaches_model_to_existing_store(tmp_path):
    torch.manual_seed(0)

    def build():
        shared = nn.Embedding(50, 8, padding_idx=2)
        return nn.Sequential(shared, nn.ModuleDict({"bag": nn.EmbeddingBag(40, 8), "same": shared}))

    trained = build()
    input = torch.arange(40)
    expected = [trained[0](input), trained[1]["bag"](input[:, None])]
    path = tmp_path / "s.tier"
    with ta.TieredStore(path, fast_rows=30) as store:
        convert(trained, store, prefix="m.")
    with torch.device("meta"):
        served = build()
    with ta.TieredStore(path, mode="r+", fast_rows=30) as store:
        convert(served, store, prefix="m.", load=False)
        assert list(store.tables) == ["m.0", "m.1.bag"]
        assert same_bits(served[0](input), expected[0])
        assert same_bits(served[1]["bag"](input[:, None]), expected[1])
        assert served[0] is served[1]["same"]


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.ModuleDict({"b": nn.Embedding(20, 5)}), "expected a table 'b' .*, got a"),
        (nn.ModuleDict({"a": nn.Embedding(21, 5)}), r"expected shape \(21, 5\), got \(20, 5\)"),
        (nn.ModuleDict({"a": nn.Embedding(20, 5).half()}), "expected float16, got float32"),
    ],
)
def test_convert_refuses_tables_that_do_not_match(store, model, named):
    store.create_table("a", 20, 5)
    with pytest.raises(ValueError, match=named):
        convert(model, store, load=False)
    assert all(type(child) is nn.Embedding for child in model.values())


def test_convert_transformer_keeps_outputs_bit_for_bit(store):
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "tokens": nn.Embedding(50, 16, padding_idx=0),
            "places": nn.Embedding(8, 16),
            "encoder": nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        }
    ).eval()

    def run(input):
        x = model["tokens"](input) + model["places"](torch.arange(input.shape[1]))
        return model["encoder"](x)

    input = torch.randint(0, 50, (3, 8))
    with torch.no_grad():
        expected = run(input)
        convert(model, store)
        assert same_bits(run(input), expected)
