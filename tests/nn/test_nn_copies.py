"""Copies, pickles and state dicts without rows of tiered modules."""

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest
from support import run_python, store_of

import tieralloc as ta
from tieralloc.tools.emulated import EmulatedMemory

torch = pytest.importorskip("torch")

from nn_support import convert, same_bits  # noqa: E402
from torch import nn  # noqa: E402

ROWS, DIM = 50, 8
INDICES = torch.tensor([[1, 2, 49], [0, 7, 7]])


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.EmbeddingBag(ROWS, DIM, mode="sum"), nn.Linear(DIM, 2)).eval()


def open_store(path, mode="a", **options):
    return store_of(path, mode, **{"fast_rows": 20, "policy": "lru", **options})


@pytest.fixture
def path(folder):
    """A closed file with the table of a converted model."""
    path = folder / "model.tier"
    with open_store(path) as store:
        convert(build(), store)
    return path


def serving(store):
    """A converted model on the rows that the store has."""
    model = build()
    expected = model(INDICES)
    bag = ta.nn.TieredEmbeddingBag(ROWS, DIM, mode="sum", store=store, name="0")
    model[0] = bag
    return model, expected


# copies


def test_deepcopy_shares_the_store(folder):
    store = open_store(folder / "a.tier")
    model = build()
    expected = model(INDICES)
    model = convert(model, store)
    other = copy.deepcopy(model)
    assert other[0] is not model[0]
    assert other[0].table is model[0].table
    assert same_bits(other(INDICES), expected)
    other.half()
    assert (other[0].dtype, model[0].dtype) == (torch.float16, torch.float32)
    other[0].table.update([1], np.zeros((1, DIM), np.float32))
    assert not model[0](torch.tensor([[1]])).any()
    shallow = copy.copy(model[0])
    assert shallow.table is model[0].table
    assert copy.deepcopy({"store": store, "tables": [store.table("0")]})["store"] is store
    store.close()
    with pytest.raises(ValueError, match="closed"):
        other(INDICES)


def test_deepcopy_of_a_collection_shares_the_store(folder):
    with open_store(folder / "a.tier") as store:
        tables = [store.create_table(name, 30, 4) for name in ("a", "b")]
        for number, table in enumerate(tables):
            table.load(np.full((30, 4), number + 1, np.float32))
        collection = ta.nn.TieredEmbeddingBagCollection(tables, mode="sum")
        other = copy.deepcopy(collection)
        assert other._store is store
        assert not set(other.modules()) & set(collection.modules())
        call = torch.tensor([3, 4, 5]), torch.tensor([0, 2])
        assert other.embedding_bag(*call).tolist() == [[2] * 4 + [2] * 4]
        restored = pickle.dumps(collection)
    again = pickle.loads(restored)
    assert again.embedding_bag(*call).tolist() == [[2] * 8]
    assert again._store is again.embedding_bags["a"].table.store
    again._store.close()


def test_deepcopy_of_a_model_with_batched_lookups_has_its_own_hooks(folder):
    with open_store(folder / "a.tier") as store:
        model = convert(nn.Sequential(nn.Embedding(ROWS, DIM), nn.Linear(DIM, 2)), store)
        ta.nn.batch_lookups(model)
        indices = torch.tensor([3, 4])
        expected = model(indices)
        for other in (copy.deepcopy(model), copy.copy(model)):
            calls = store.stats().calls
            assert same_bits(other(indices), expected)
            assert store.stats().calls == calls + 1
        other = copy.deepcopy(model)
        ta.nn.restore(other)
        assert same_bits(model(indices), expected)
        assert same_bits(other(indices), expected)


def test_copy_trains_its_own_flags(folder):
    with open_store(folder / "a.tier") as store:
        model = convert(build(), store)
        other = copy.deepcopy(model).train()
        assert (other[0].training, model[0].training) == (True, False)
        with pytest.raises(RuntimeError, match="no gradient for its rows"):
            other(INDICES).sum().backward()
        other[0].requires_grad_(False)
        other(INDICES).sum().backward()
        assert other[1].weight.grad is not None
        assert model[0]._is_trainable


# pickles


def test_unpickled_model_reads_the_closed_file(path):
    with open_store(path, bounds_check_mode="warning") as store:
        model, expected = serving(store)
        pickled = pickle.dumps(model)
        saved = io.BytesIO()
        torch.save(model, saved)
    again = pickle.loads(pickled)
    assert same_bits(again(INDICES), expected)
    opened = again[0].table.store
    assert opened is not store
    stats = opened.stats()
    assert (stats.policy, stats.fast_rows, stats.slow_tier.path) == ("lru", 20, str(path))
    assert same_bits(again[0](torch.tensor([[99]])), again[0](torch.tensor([[0]])))  # "warning"
    saved.seek(0)
    loaded = torch.load(saved, weights_only=False)
    assert loaded[0].table.store is opened  # one fast tier per process
    assert pickle.loads(pickled)[0].table is again[0].table
    with pytest.raises(io.UnsupportedOperation, match="got mode 'r'"):
        again[0].table.update([1], np.zeros((1, DIM), np.float32))
    opened.close()
    assert same_bits(pickle.loads(pickled)(INDICES), expected)  # opened again


def test_unpickling_beside_a_reader_works_beside_a_writer_raises(path):
    with open_store(path, mode="r") as store:
        model, expected = serving(store)
        again = pickle.loads(pickle.dumps(model))
        assert same_bits(again(INDICES), expected)
        again[0].table.store.close()
    with open_store(path, mode="r+") as store:
        pickled = pickle.dumps(serving(store)[0])
        with pytest.raises(BlockingIOError, match="open to write, so that no other") as caught:
            pickle.loads(pickled)
        assert caught.value.filename == str(path)


def test_unpickling_of_another_or_a_missing_file_raises(path, folder):
    with open_store(path) as store:
        pickled = pickle.dumps(serving(store)[0])
    path.rename(folder / "moved.tier")
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)
    with open_store(path) as store:
        convert(build(), store)
    with pytest.raises(ValueError, match="not the file that was pickled; expected store id"):
        pickle.loads(pickled)


def test_pickling_of_memory_raises():
    with ta.TieredStore(slow=EmulatedMemory(1), fast_rows=20) as store:
        model = convert(build(), store)
        with pytest.raises(TypeError, match="rows are in the memory of this process"):
            pickle.dumps(model)
        assert copy.deepcopy(model)[0].table is model[0].table


class Lookups(torch.utils.data.Dataset):
    """Samples that a worker process computes with a model."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 6

    def __getitem__(self, index):
        with torch.no_grad():
            return self.model(INDICES + index % 2 * 0)[index % 2]


def load(model):
    loader = torch.utils.data.DataLoader(
        Lookups(model), batch_size=3, num_workers=1, multiprocessing_context="spawn", timeout=60
    )
    return torch.cat(list(loader))


def test_spawned_workers_open_the_file_that_is_read(path):
    with open_store(path, mode="r") as store:
        model, expected = serving(store)
        assert torch.equal(load(model), expected[[0, 1] * 3])
        assert store.stats().calls == 0


def test_spawned_workers_of_a_writer_are_refused_before_their_start(path):
    with open_store(path, mode="r+") as store:
        model, _ = serving(store)
        with pytest.raises(BlockingIOError, match="open the file with mode='r'"):
            load(model)


def test_forked_workers_raise_and_say_why(path):
    with open_store(path, mode="r") as store:
        model, expected = serving(store)
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=_look_up, args=(model, theirs))
        worker.start()
        assert ours.poll(60)
        assert "belongs to the parent process; a forked child must open a store" in ours.recv()
        worker.join()
        assert same_bits(model(INDICES), expected)


def _look_up(model, connection):
    try:
        model(INDICES)
    except ValueError as error:
        connection.send(str(error))


def test_forked_workers_may_unpickle(path):
    with open_store(path, mode="r") as store:
        model, expected = serving(store)
        pickled = pickle.dumps(model)
        parents = pickle.loads(pickled)
        context = multiprocessing.get_context("fork")
        with context.Pool(1) as pool:
            found = pool.apply(_serve_pickled, (pickled,))
        np.testing.assert_array_equal(found, expected.detach().numpy())
        parents[0].table.store.close()


def _serve_pickled(pickled):
    with torch.no_grad():
        return pickle.loads(pickled)(INDICES).numpy()


def test_unpickled_in_another_interpreter(path, folder):
    with open_store(path) as store:
        model, expected = serving(store)
        torch.save(model, folder / "model.pt")
    run = run_python(
        """
        import sys, torch
        model = torch.load(sys.argv[1], weights_only=False)
        print(model(torch.tensor([[1, 2, 49], [0, 7, 7]])).tolist())
        """,
        folder / "model.pt",
    )
    assert run.returncode == 0, run.stderr
    assert torch.allclose(torch.tensor(eval(run.stdout)), expected)


# references in state dicts


def test_state_dict_has_references_instead_of_rows(path, folder):
    with open_store(path) as store:
        model, expected = serving(store)
        state = model.state_dict()
        assert list(state) == ["0._extra_state", "1.weight", "1.bias"]
        assert ta.nn.references(state) == {
            "0": {
                "file": str(path),
                "store_id": store.store_id,
                "table": "0",
                "shape": [ROWS, DIM],
            }
        }
        assert list(ta.nn.state_dict(model)) == ["0.weight", "1.weight", "1.bias"]
        assert ta.nn.references(ta.nn.state_dict(model)) == {}
        torch.save(state, folder / "state.pt")
        nn.init.zeros_(model[1].weight)
        assert model.load_state_dict(torch.load(folder / "state.pt")) == ([], [])
        assert same_bits(model(INDICES), expected)
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, folder / "state.safetensors")
    with open_store(path) as store:
        model, _ = serving(store)
        model.load_state_dict(safetensors.load_file(folder / "state.safetensors"))
        assert same_bits(model(INDICES), expected)


def test_reference_survives_a_move_of_the_file(path, folder):
    with open_store(path) as store:
        state = serving(store)[0].state_dict()
    path.rename(folder / "moved.tier")
    with open_store(folder / "moved.tier") as store:
        serving(store)[0].load_state_dict(state)


def test_reference_to_other_table_or_file_raises_and_names_both(path, folder):
    with open_store(path) as store:
        model, _ = serving(store)
        state = model.state_dict()
        store.create_table("other", ROWS, DIM)
        other = nn.Sequential(
            ta.nn.TieredEmbeddingBag(ROWS, DIM, store=store, name="other"), nn.Linear(DIM, 2)
        )
        message = (
            rf"expected a reference to table 'other' .* of {path} \(id \d+\), got one to table '0'"
        )
        with pytest.raises(RuntimeError, match=message):
            other.load_state_dict(state)
        with pytest.raises(RuntimeError, match="expected a reference to a table, got a dict"):
            other.load_state_dict({"0._extra_state": {"table": "0"}}, strict=False)
        broken = torch.tensor([1, 2, 3], dtype=torch.uint8)
        with pytest.raises(RuntimeError, match="got one to table None"):
            other.load_state_dict({"0._extra_state": broken}, strict=False)
    with open_store(folder / "second.tier") as store:
        model = convert(build(), store)
        with pytest.raises(RuntimeError, match=rf"second.tier .*got one to .* of {path}"):
            model.load_state_dict(state)
        whole = {**state, "0.weight": torch.ones(ROWS, DIM)}  # rows need no reference
        model.load_state_dict(whole)
        assert (model[0](torch.tensor([[5]])) == 1).all()
        model.load_state_dict({"1.weight": state["1.weight"], "1.bias": state["1.bias"]})


def test_references_to_memory_are_of_one_store():
    def model_in(store):
        return convert(build(), store)

    with ta.TieredStore(slow=EmulatedMemory(1), fast_rows=20) as store:
        model = model_in(store)
        state = model.state_dict()
        assert ta.nn.references(state)["0"]["file"] is None
        model.load_state_dict(state)
    with (
        ta.TieredStore(slow=EmulatedMemory(1), fast_rows=20) as store,
        pytest.raises(RuntimeError, match=r"got one to table '0' .* of memory"),
    ):
        model_in(store).load_state_dict(state)


def test_state_dict_of_a_closed_store_still_has_references(path):
    with open_store(path) as store:
        model, _ = serving(store)
        state = model.state_dict()
    assert ta.nn.references(model.state_dict()) == ta.nn.references(state)
    with pytest.raises(ValueError, match="closed"):
        ta.nn.state_dict(model)
