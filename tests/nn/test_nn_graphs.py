"""Converted models as graphs: torch.compile and torch.export call operators, without breaks."""

import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support import new_store, path_of, run_python

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, MODES, bag_calls, convert, random_rows, same_bits  # noqa: E402
from torch import nn  # noqa: E402

OPERATORS = Path(ta.__file__).parent / "nn" / "native" / "operators.cpp"


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()


class Scorer(nn.Module):
    """Bags of both kinds of inputs, weights, padding, rows, and three types of tables."""

    def __init__(self, dim=8):
        super().__init__()
        self.seen = nn.EmbeddingBag(20, dim, mode="sum", padding_idx=3)
        self.tags = nn.EmbeddingBag(30, dim, mode="mean", dtype=torch.float16)
        self.user = nn.Embedding(10, dim, dtype=torch.bfloat16)
        self.top = nn.Linear(dim, 1)

    def forward(self, seen, offsets, weights, tags, user):
        pooled = self.seen(seen, offsets, weights) + self.tags(tags).float()
        return self.top(pooled + self.user(user).float()).relu()


def call(samples, per_sample=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = samples * per_sample
    return (
        torch.randint(0, 20, (rows,), generator=generator),
        torch.arange(samples) * per_sample,
        torch.rand(rows, generator=generator),
        torch.randint(0, 30, (samples, 2), generator=generator),
        torch.randint(0, 10, (samples,), generator=generator, dtype=torch.int32),
    )


def test_compiled_model_has_one_graph_and_equals_eager(store):
    model = convert(Scorer(), store)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for samples in (4, 5, 9, 2):
            torch.testing.assert_close(compiled(*call(samples)), model(*call(samples)))


def test_model_compiled_by_inductor_equals_eager(store):
    model = convert(nn.Sequential(nn.EmbeddingBag(20, 8), nn.ReLU()), store)
    compiled = torch.compile(model, fullgraph=True)
    bags = torch.arange(20).reshape(4, 5)
    assert same_bits(compiled(bags), model(bags))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_compiled_quantised_model_equals_eager(store, dtype):
    model = convert(nn.Sequential(nn.EmbeddingBag(20, 8, mode="sum")), store, dtype=dtype)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    bags = torch.randint(0, 20, (6, 3))
    assert same_bits(compiled(bags), model(bags))
    assert same_bits(compiled(bags.int()), model(bags))


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_model_follows_dtype(store, dtype):
    model = convert(nn.Sequential(nn.EmbeddingBag(20, 8), nn.Linear(8, 1)).half(), store)
    model.to(dtype)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    bags = torch.randint(0, 20, (6, 3))
    assert compiled(bags).dtype is dtype
    assert same_bits(compiled(bags), model(bags))


def test_compiled_collection_of_tensor_lists_equals_eager(store):
    bags = [
        ta.nn.TieredEmbeddingBag.from_pretrained(
            random_rows(20, 4 + i), store=store, name=f"t{i}", mode="sum"
        )
        for i in range(3)
    ]
    collection = ta.nn.TieredEmbeddingBagCollection(bags)
    lookup = collection.embedding_bag
    compiled = torch.compile(lookup, backend="aot_eager", fullgraph=True)
    flat, starts = torch.arange(12), torch.arange(0, 12, 2)
    parts = [torch.tensor([1, 2, 3]), torch.tensor([[4, 5], [6, 7]]), torch.tensor([8])]
    offsets = [torch.tensor([0, 2]), None, torch.tensor([0, 0])]
    assert same_bits(compiled(flat, starts), lookup(flat, starts))
    assert same_bits(compiled(parts, offsets), lookup(parts, offsets))
    rows = torch.nested.nested_tensor([[1, 2], [3]], layout=torch.jagged)
    mixed = [parts[0], rows, parts[2]]
    assert same_bits(
        lookup(mixed, offsets),
        lookup([parts[0], torch.tensor([1, 2, 3]), parts[2]], [offsets[0], offsets[0], offsets[2]]),
    )


def test_compiled_models_serve_from_their_own_stores(make_store, tmp_path):
    models = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        own = make_store(tmp_path / str(number) / "same.tier", fast_rows=16)
        bag = nn.EmbeddingBag.from_pretrained(torch.full((9, 4), float(number)), mode="sum")
        models.append(convert(nn.Sequential(bag), own))
    compiled = [torch.compile(model, backend="aot_eager", fullgraph=True) for model in models]
    bags = torch.tensor([[1, 2]])
    assert [one(bags)[0, 0].item() for one in compiled] == [2, 4]
    assert (
        torch.compile(lambda x: models[0](x) + models[1](x), backend="aot_eager", fullgraph=True)(
            bags
        )[0, 0]
        == 6
    )


def test_compiled_model_sees_updates(store):
    model = convert(nn.Sequential(nn.Embedding(20, 4)), store)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    rows = torch.tensor([3, 4])
    compiled(rows)
    store.table("0").update([4], torch.full((1, 4), 7.0).numpy())
    assert torch.equal(compiled(rows)[1], torch.full((4,), 7.0))


def test_compiled_model_raises_errors_of_lookups(store):
    model = convert(nn.Sequential(nn.Embedding(20, 4)), store)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with pytest.raises(IndexError, match="expected 0 to 19, got 20"):
        compiled(torch.tensor([20]))
    store.close()
    with pytest.raises(ValueError, match="closed"):
        compiled(torch.tensor([1]))


def test_compiled_request_is_recorded_as_one(store):
    model = convert(Scorer(), store)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), store.record() as recorder:
        with pytest.raises(IndexError):
            compiled(call(4)[0] + 30, *call(4)[1:])  # a failed request leaves none of its samples
        recorder.drain()
        for samples in (4, 6):
            compiled(*call(samples))
            rows, lengths = recorder.drain()
            model(*call(samples))
            expected = recorder.drain()
            assert lengths.tolist() == expected[1].tolist()
            assert sorted(rows) == sorted(expected[0])


def test_compiled_training_step_refuses_rows_and_trains_the_rest(store):
    model = convert(Scorer(), store)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=r"backward: a TieredEmbedding.* in training mode"):
        compiled(*call(4)).sum().backward()
    model.requires_grad_(False)
    for bag in (model.seen, model.tags, model.user):
        bag.requires_grad_(False)
    model.top.requires_grad_(True)
    model(*call(4)).sum().backward()
    expected = model.top.weight.grad.clone()
    model.zero_grad()
    torch.compile(model, backend="aot_eager", fullgraph=True)(*call(4)).sum().backward()
    torch.testing.assert_close(model.top.weight.grad, expected)


@settings(max_examples=30)
@given(data=st.data())
def test_operator_of_bags_agrees_with_its_fake(data):
    dtype, mode = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(MODES))
    weighted = mode == "sum" and data.draw(st.booleans())
    last = data.draw(st.booleans())
    bags = data.draw(bag_calls(20, dtype, weighted=weighted, include_last_offset=last))
    with new_store(fast_rows=8) as store:
        module = ta.nn.TieredEmbeddingBag.from_pretrained(
            random_rows(20, 6, dtype), store=store, name="t", mode=mode, include_last_offset=last
        )
        weights = (
            None
            if bags.weights is None
            else bags.weights.to(torch.float64 if dtype is torch.float64 else torch.float32)
        )
        arguments = ([bags.input], [bags.offsets], [weights])
        options = {
            "store": module._names.handle,
            "tables": ["t"],
            "dims": [6],
            "paddings": [-1],
            "mode": mode,
            "include_last_offset": last,
            "dtype": dtype,
        }
        operator = torch.ops.tieralloc.embedding_bag.default
        assert same_bits(operator(*arguments, **options), module(*bags))
        torch.library.opcheck(
            operator, arguments, options, test_utils=("test_schema", "test_faketensor")
        )


def test_operators_pass_the_checks_of_torch(store):
    module = ta.nn.TieredEmbedding(20, 4, store=store, name="t")
    names = {"store": module._names.handle, "tables": ["t"], "dims": [4], "dtype": torch.float32}
    operators = torch.ops.tieralloc
    torch.library.opcheck(operators.embedding.default, (torch.tensor([[1, 2]]),), names)
    results = [torch.rand(2, 3, requires_grad=True), torch.rand(2)]
    torch.library.opcheck(operators.end_request.default, (results,))


def test_native_operators_have_the_schemas_of_python():
    text = re.sub(r'"\s*"', "", OPERATORS.read_text())
    schemas = re.findall(r'library\.def\(\s*"(.*?)"\s*\)', text)
    assert len(schemas) == 2
    for schema in schemas:
        parsed = torch._C.parse_schema(f"tieralloc::{schema}")
        operator = getattr(torch.ops.tieralloc, schema.split("(")[0]).default
        assert str(parsed) == str(operator._schema)


def export(model, samples=4, **options):
    shapes = tuple({0: torch.export.Dim.AUTO} for _ in call(samples))
    return torch.export.export(model, call(samples), dynamic_shapes=shapes, **options)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("batches", [False, True])
def test_exported_program_equals_model(store, strict, batches):
    model = convert(Scorer().eval(), store)
    if batches:
        ta.nn.batch_lookups(model)
    program = export(model, strict=strict).module()
    with torch.no_grad():
        for samples in (4, 9):
            torch.testing.assert_close(program(*call(samples)), model(*call(samples)))


LOAD = """
    import sys, torch
    import tieralloc as ta
    ta.nn
    program = torch.export.load(sys.argv[1])
    inputs = torch.load(sys.argv[2])
    try:
        program.module()(*inputs)
    except RuntimeError as error:
        print(error)
    other = ta.TieredStore(sys.argv[4], fast_bytes="1MiB")
    other.create_table("seen", 20, 5)
    try:
        ta.nn.attach(program, other)
    except ValueError as error:
        print(error)
    store = ta.TieredStore(sys.argv[3], mode="r", fast_bytes="1MiB")
    ta.nn.attach(program, store)
    torch.save(program.module()(*inputs), sys.argv[5])
    assert store.stats().lookups > 0
"""


def test_program_serves_in_another_process_from_its_store(make_store, tmp_path):
    store = make_store(tmp_path / "model.tier", fast_rows=16)
    model = convert(Scorer().eval(), store)
    torch.export.save(export(model), tmp_path / "model.pt2")
    torch.save(call(7), tmp_path / "inputs")
    with torch.no_grad():
        expected = model(*call(7))
    path = path_of(store)
    store.close()
    paths = [tmp_path / "model.pt2", tmp_path / "inputs", path, tmp_path / "o", tmp_path / "result"]
    child = run_python(LOAD, *paths)
    assert child.returncode == 0, child.stderr
    unattached, other = child.stdout.splitlines()
    assert unattached.startswith("store 'model.tier': not attached; expected a call of tieralloc")
    assert other.startswith("table 'seen': the graph expects rows of 8 elements")
    torch.testing.assert_close(torch.load(tmp_path / "result").detach(), expected)


def test_stores_of_one_name_need_names_of_their_own_to_export(make_store, tmp_path):
    models = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        own = make_store(tmp_path / str(number) / "model.tier", fast_rows=16)
        models.append((convert(Scorer().eval(), own), own))
    (first, _), (second, own) = models
    with pytest.raises(ValueError, match=r"attach\(name, store\) before the export"):
        export(second)
    ta.nn.attach("second", own)
    programs = [export(model).module() for model in (first, second)]
    with torch.no_grad():
        for program, (model, _) in zip(programs, models, strict=True):
            assert same_bits(program(*call(4)), model(*call(4)))


def test_attached_name_moves_to_another_store(make_store):
    stores = [make_store(fast_rows=16) for _ in range(2)]
    for value, store in enumerate(stores):
        weight = torch.full((20, 4), float(value))
        model = convert(nn.Sequential(nn.Embedding.from_pretrained(weight)), store)
        ta.nn.attach("ctr", store)
        if value == 0:
            program = torch.export.export(model, (torch.tensor([1, 2]),)).module()
    assert program(torch.tensor([1, 2])).mean() == 1
    ta.nn.attach("ctr", stores[0])
    assert program(torch.tensor([1, 2])).mean() == 0
    stores[0].close()
    with pytest.raises(ValueError, match="closed"):
        program(torch.tensor([1, 2]))


def test_attach_refuses_other_arguments(store):
    plain = torch.export.export(nn.Linear(2, 2), (torch.rand(1, 2),))
    with pytest.raises(ValueError, match="program: expected lookups in one store, got none"):
        ta.nn.attach(plain, store)
    with pytest.raises(TypeError, match="program: expected an ExportedProgram or the name"):
        ta.nn.attach(nn.Linear(2, 2), store)
    with pytest.raises(TypeError, match="store: expected a TieredStore"):
        ta.nn.attach("name", None)
    store.close()
    with pytest.raises(ValueError, match="store: expected an open store"):
        ta.nn.attach("name", store)
