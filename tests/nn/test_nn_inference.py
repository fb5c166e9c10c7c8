"""A converted model in other uses than inference in float32: right, or an error at once."""

import pytest

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import random_rows, same_bits  # noqa: E402
from torch import nn  # noqa: E402

FLOATS = (torch.float16, torch.bfloat16, torch.float64)


@pytest.fixture
def store(make_store):
    return make_store(fast_rows=16)


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(20, 8)
        self.bags = nn.EmbeddingBag(30, 8, mode="sum")
        self.top = nn.Linear(8, 1)

    def forward(self, items, bags):
        return self.top(self.items(items) + self.bags(bags))


CALL = (torch.tensor([3, 1]), torch.tensor([[1, 2, 3], [4, 5, 6]]))


@pytest.fixture
def scorer(store):
    return ta.nn.convert(Scorer().eval(), store, verbose=False).model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("call", "export"),
    [
        ("torch.jit.trace", lambda model: torch.jit.trace(model, CALL)),
        ("torch.jit.script", torch.jit.script),
    ],
)
@pytest.mark.parametrize("batches", [False, True])
def test_torchscript_of_converted_model_raises(scorer, call, export, batches):
    if batches:
        ta.nn.batch_lookups(scorer)
    with pytest.raises(RuntimeError, match=rf"{call}: a lookup in a store .*nn\.restore\(model\)"):
        export(scorer)
    with torch.no_grad():
        assert scorer(*CALL).shape == (2, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_restored_model_can_be_traced(scorer):
    with torch.no_grad():
        expected = scorer(*CALL)
        traced = torch.jit.trace(ta.nn.restore(scorer), CALL)
        assert same_bits(traced(*CALL), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_converted_model_follows_dtype(scorer, dtype):
    plain = Scorer().eval().to(dtype)
    plain.load_state_dict({key: value.to(dtype) for key, value in ta.nn.state_dict(scorer).items()})
    with torch.no_grad():
        assert scorer.to(dtype) is scorer
        result = scorer(*CALL)
        assert result.dtype is dtype
        torch.testing.assert_close(result, plain(*CALL), rtol=0.05, atol=0.05)
        # A row is rounded as the weight of torch's module is.
        assert same_bits(scorer.items(CALL[0]), plain.items(CALL[0]))
        scorer.float()
        assert scorer(*CALL).dtype is torch.float32


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_modules_of_16_bit_rows_follow_dtype(store, change):
    weight = random_rows(20, 8, torch.bfloat16)
    bag = ta.nn.TieredEmbeddingBag.from_pretrained(weight, mode="sum", store=store)
    expected = weight.double()[:3].sum(0)
    with torch.no_grad():
        result = change(bag)(torch.arange(3)[None])
        assert result.dtype is bag.dtype
        torch.testing.assert_close(result[0].double(), expected, rtol=0.01, atol=0.01)
        assert bag.table.dtype == "bfloat16"


def test_bag_in_other_dtype_accepts_weights_of_it(store):
    bag = ta.nn.TieredEmbeddingBag.from_pretrained(random_rows(20, 8), mode="sum", store=store)
    input, weights = torch.arange(4)[None], torch.tensor([[0.5, 2, 1, 4]])
    expected = bag(input, None, weights)
    assert same_bits(bag.half()(input, None, weights.half()), expected.half())
    assert same_bits(bag(input, None, weights), expected.half())


def test_collection_follows_dtype(store):
    bags = [nn.EmbeddingBag(20, 4, mode="sum") for _ in range(2)]
    model = ta.nn.convert(nn.ModuleList(bags), store, verbose=False).model
    collection = ta.nn.TieredEmbeddingBagCollection(model)
    rows = [torch.tensor([[1, 2]]), torch.tensor([[3, 4]])]
    expected = collection.embedding_bag(rows)
    assert same_bits(collection.bfloat16().embedding_bag(rows), expected.bfloat16())


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_module_refuses_dtype_that_tables_do_not_have(scorer):
    with pytest.raises(ValueError, match=r"dtype: expected .* got torch.complex64"):
        scorer.items.to(torch.complex64)


def test_training_step_of_converted_model_raises_in_backward(store):
    model = ta.nn.convert(Scorer(), store, verbose=False).model.train()
    loss = model(*CALL).sum()
    with pytest.raises(RuntimeError, match=r"backward: a TieredEmbedding.*nn\.restore\(model\)"):
        loss.backward()
    with torch.no_grad():
        assert not model(*CALL).requires_grad
    assert not model.eval().items(CALL[0]).requires_grad


def test_results_in_training_mode_equal_eval_mode(store):
    model = ta.nn.convert(Scorer(), store, verbose=False).model
    trained = model(*CALL)
    assert same_bits(trained, model.eval()(*CALL))
    changed = model.train().items(CALL[0])
    changed += 1  # in place, as torch's results allow
    assert same_bits(changed.detach(), model.eval().items(CALL[0]) + 1)


def test_frozen_embeddings_let_other_layers_train(store):
    model = Scorer()
    model.items.weight.requires_grad_(False)
    ta.nn.convert(model, store, verbose=False)
    model.bags.requires_grad_(False)
    model.train()(*CALL).sum().backward()
    assert model.top.weight.grad is not None


def test_training_step_of_collection_raises(store):
    bags = nn.ModuleList(nn.EmbeddingBag(20, 4, mode="sum") for _ in range(2))
    ta.nn.convert(bags, store, verbose=False)
    collection = ta.nn.TieredEmbeddingBagCollection(bags)
    rows = [torch.tensor([[1, 2]]), torch.tensor([[3, 4]])]
    with pytest.raises(RuntimeError, match="TieredEmbeddingBagCollection in training mode"):
        collection.embedding_bag(rows).sum().backward()
    collection.requires_grad_(False)
    assert not collection.embedding_bag(rows).requires_grad
    assert not bags[0](rows[0]).requires_grad
