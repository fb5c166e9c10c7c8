"""A converted model becomes torch's again, and saves and loads whole checkpoints."""

import os

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


def build():
    torch.manual_seed(0)
    shared = nn.Embedding(50, 8, padding_idx=2, sparse=True)
    bag = nn.EmbeddingBag(40, 6, mode="max", include_last_offset=True, padding_idx=-1)
    bag.weight.requires_grad_(False)
    return nn.Sequential(shared, nn.ModuleDict({"bag": bag, "same": shared}), nn.Linear(8, 2))


def assert_same_state(state, expected):
    assert list(state) == list(expected)
    assert all(same_bits(state[key], expected[key]) for key in expected)


@settings(max_examples=30)
@given(data=st.data())
def test_restored_modules_equal_the_originals(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    rows, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    weight = random_rows(rows, dim, dtype)
    padding = data.draw(st.none() | st.integers(0, rows - 1))
    mode, last = data.draw(st.sampled_from(MODES)), data.draw(st.booleans())
    freeze = data.draw(st.booleans())
    old = [
        nn.Embedding.from_pretrained(weight, freeze, padding, scale_grad_by_freq=True),
        nn.EmbeddingBag.from_pretrained(
            weight, freeze, mode=mode, padding_idx=padding, include_last_offset=last
        ),
    ]
    with new_store(fast_rows=16) as store:
        model = convert(nn.ModuleList(old), store)
        model[0].feature = "item"
        assert ta.nn.restore(model) is model
        for new, module in zip(model, old, strict=True):
            assert type(new) is type(module)
            assert same_bits(new.weight, module.weight)
            assert new.weight.requires_grad is not freeze
            names = type(module).__constants__
            assert [getattr(new, key) for key in names] == [getattr(module, key) for key in names]
        assert vars(model[0]).keys() == vars(old[0]).keys() | {"feature"}
        assert vars(model).keys() == vars(nn.ModuleList()).keys()
        assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 0


def test_restore_reads_tables_in_row_ranges(make_store):
    weight = random_rows(100_000, 64)  # 25 MB, two ranges
    with make_store(fast_rows=100) as store, store.record() as recorder:
        model = convert(nn.Sequential(nn.Embedding.from_pretrained(weight)), store)
        store.table("0").update([99_999], torch.ones(1, 64))
        weight[99_999] = 1
        assert same_bits(ta.nn.restore(model)[0].weight, weight)
        assert recorder.to_trace().num_lookups == 0


def test_restore_shares_weights_and_keeps_hooks(store):
    model = convert(build(), store)
    seen = []
    handle = model[0].register_forward_hook(lambda *_: seen.append(1))
    restored = ta.nn.restore(model)
    assert restored[0] is restored[1]["same"]
    assert_same_state(restored.state_dict(), build().state_dict())
    restored[0](torch.tensor([1]))
    handle.remove()
    restored[0](torch.tensor([1]))
    assert seen == [1]
    other = nn.EmbeddingBag(50, 8)
    one = nn.Embedding(50, 8)
    other.weight = one.weight
    one, other = ta.nn.restore(convert(nn.ModuleList([one, other]), store, prefix="b"))
    assert one.weight is other.weight


def test_restored_model_trains(store):
    model = ta.nn.restore(convert(nn.Sequential(nn.Embedding(20, 5), nn.Linear(5, 1)), store))
    before = model[0].weight.detach().clone()
    model(torch.arange(3)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not torch.equal(model[0].weight[:3], before[:3])
    assert torch.equal(model[0].weight[3:], before[3:])


def test_restore_keeps_dtype_of_converted_model(store):
    model = nn.Sequential(nn.Embedding(20, 5), nn.Linear(5, 1))
    expected = model[0].weight.detach().half()
    assert same_bits(ta.nn.restore(convert(model, store).half())[0].weight, expected)


def test_restore_of_root_and_of_unconverted_model(store):
    weight = random_rows(20, 5)
    assert same_bits(
        ta.nn.restore(convert(nn.Embedding.from_pretrained(weight), store)).weight, weight
    )
    with pytest.raises(ValueError, match="got a Linear without tiered modules"):
        ta.nn.restore(nn.Linear(2, 3))


def test_restore_from_closed_store_leaves_model_unchanged(store):
    model = convert(build(), store)
    store.close()
    with pytest.raises(ValueError, match="closed"):
        ta.nn.restore(model)
    assert type(model[0]) is ta.nn.TieredEmbedding


def test_whole_state_dict_equals_the_original(store, tmp_path):
    model = convert(build(), store)
    assert_same_state(ta.nn.state_dict(model), build().state_dict())
    dense = ["2.weight", "2.bias"]
    assert [key for key in model.state_dict() if not key.endswith("_extra_state")] == dense
    torch.save(ta.nn.state_dict(model), tmp_path / "whole.pt")
    # The rows of the shared module are saved once.
    assert os.path.getsize(tmp_path / "whole.pt") < 50 * 8 * 4 + 40 * 6 * 4 + 4000
    loaded = build()
    for weight in loaded.parameters():
        nn.init.zeros_(weight)
    loaded.load_state_dict(torch.load(tmp_path / "whole.pt"))
    assert_same_state(loaded.state_dict(), build().state_dict())


def test_load_state_dict_writes_rows_that_it_has(store):
    model = convert(build(), store)
    changed = {key: value + 1 for key, value in build().state_dict().items()}
    assert model.load_state_dict(changed) == ([], [])
    assert_same_state(ta.nn.state_dict(model), changed)
    assert same_bits(model[0](torch.tensor([7])), changed["0.weight"][7:8])
    model.load_state_dict({"2.weight": torch.zeros(2, 8), "2.bias": torch.zeros(2)})
    assert same_bits(model[0](torch.tensor([7])), changed["0.weight"][7:8])
    model.load_state_dict({**changed, "0.weight": changed["0.weight"].double() * 2})
    assert same_bits(model[0](torch.tensor([7])), changed["1.same.weight"][7:8])


def test_load_state_dict_names_all_that_does_not_match(store):
    model = convert(build(), store)
    state = {**build().state_dict(), "0.weight": torch.zeros(50, 9), "0.mask": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"0\.mask") as error:
        model.load_state_dict(state)
    assert "0.weight: expected shape (50, 8), got (50, 9)" in str(error.value)
