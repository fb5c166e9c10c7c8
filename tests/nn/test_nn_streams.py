"""Models larger than memory: rows of a checkpoint on disk, streamed to the tables, resumable."""

import json
import signal
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from support import run_python

import tieralloc as ta

torch = pytest.importorskip("torch")

from nn_support import DTYPES, random_rows, same_bits  # noqa: E402
from torch import nn  # noqa: E402

from tieralloc.nn._streams import Checkpoint, StoredTensor, _Part  # noqa: E402

KINDS = ["safetensors", "shards", "torch", "nested", "distributed"]


class Scorer(nn.Module):
    def __init__(self, rows=300, dim=16):
        super().__init__()
        self.seen = nn.EmbeddingBag(rows, dim, mode="sum")
        self.user = nn.Embedding(50, dim)
        self.top = nn.Linear(dim, 1)
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, seen, user):
        return self.top(self.seen(seen) + self.user(user)) * self.scale


def save(model, kind, folder):
    """Write the state dict of a model as a checkpoint; return its path."""
    state = model.state_dict()
    path = folder / f"checkpoint.{kind}"
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif kind == "shards":
        write = pytest.importorskip("safetensors.torch").save_file
        path.mkdir()
        for number, (key, tensor) in enumerate(state.items()):
            write({key: tensor}, path / f"model-{number:05}.safetensors")
    elif kind == "distributed":
        import torch.distributed.checkpoint as dcp

        dcp.save({"model": state, "step": 7}, checkpoint_id=path, no_dist=True)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, path)
    return path


CALL = (torch.tensor([[1, 2, 299], [4, 5, 6]]), torch.tensor([49, 0]))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_meta_model_converted_from_checkpoint_equals_original(make_store, tmp_path, kind, dtype):
    original = Scorer().eval()
    with torch.device("meta"):
        model = Scorer().eval()
    store = make_store(fast_rows=16)
    path = save(original, kind, tmp_path)
    ta.nn.convert(model, store, checkpoint=path, dtype=dtype, verbose=False)
    expected = make_store(fast_rows=16)
    ta.nn.convert(original, expected, dtype=dtype, verbose=False)
    assert same_bits(model(*CALL), original(*CALL))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert list(store.tables) == list(expected.tables)
    assert not list(tmp_path.glob("*.convert"))


@settings(max_examples=40)
@given(data=st.data())
def test_chunks_of_parts_are_the_rows(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    dtype = data.draw(st.sampled_from(DTYPES))
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    rows = random_rows(sum(lengths), 3, dtype)
    parts, first = [], 0
    for number, length in enumerate(lengths):
        path, gap = folder / str(number), data.draw(st.integers(0, 20))
        values = rows[first : first + length].contiguous().view(torch.uint8).numpy().tobytes()
        path.write_bytes(b"\1" * gap + values + b"\2" * 5)
        parts.append(_Part(first, length, path, gap))
        first += length
    stored = StoredTensor(tuple(rows.shape), dtype, tuple(parts))
    begin = data.draw(st.integers(0, first - 1))
    end = data.draw(st.integers(begin + 1, first))
    assert same_bits(torch.cat(list(stored.chunks(begin, end))), rows[begin:end])


def test_shards_of_several_ranks_are_one_table(tmp_path):
    """Files as two ranks write them: rows 0 to 5 in one file, rows 6 to 9 in the other."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import MetadataIndex

    rows = random_rows(10, 4)
    path = tmp_path / "checkpoint"
    dcp.save({"a": rows[:6].clone(), "b": rows[6:].clone()}, checkpoint_id=path, no_dist=True)
    reader = dcp.FileSystemReader(path)
    metadata = reader.read_metadata()
    places = {index.fqn: place for index, place in metadata.storage_data.items()}
    entry = metadata.state_dict_metadata.pop("a")
    metadata.state_dict_metadata["emb.weight"] = type(entry)(
        entry.properties, torch.Size([10, 4]), entry.chunks
    )
    del metadata.state_dict_metadata["b"]
    metadata.storage_data = {
        MetadataIndex("emb.weight", torch.Size([6, 0]), 1): places["b"],
        MetadataIndex("emb.weight", torch.Size([0, 0]), 0): places["a"],
    }
    import pickle

    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    assert same_bits(Checkpoint(path).tensors["emb.weight"].read(), rows)


PEAK = """
    import sys, torch
    import tieralloc as ta
    from torch import nn

    def status(name):
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

    folder, rows, kinds = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    def load(kind, rows, folder):
        with torch.device("meta"):
            model = nn.Sequential(nn.EmbeddingBag(rows, 64, mode="sum"))
        with ta.TieredStore(f"{folder}/{kind}.tier", fast_bytes="1MiB") as store:
            path = f"{folder}/checkpoint.{kind}"
            ta.nn.convert(model, store, checkpoint=path, verbose=False)
            return store.table("0").lookup([rows - 1])[0, 0]

    for kind in kinds:
        load(kind, 10, f"{folder}/small")  # imports
        open("/proc/self/clear_refs", "w").write("5")  # the peak is what is resident now
        before = status("VmRSS")
        value = load(kind, rows, folder)
        print(status("VmHWM") - before, value)
"""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_memory_does_not_grow_with_the_table(folder):
    kinds = ["safetensors", "torch", "distributed"]
    rows = (160 << 20) // 256

    def save_all(rows, folder):
        weight = torch.arange(rows, dtype=torch.float32)[:, None].expand(rows, 64).contiguous()
        model = nn.Sequential(nn.EmbeddingBag.from_pretrained(weight, mode="sum"))
        for kind in kinds:
            save(model, kind, folder)

    (folder / "small").mkdir()
    save_all(rows, folder)
    save_all(10, folder / "small")
    child = run_python(PEAK, folder, rows, *kinds)
    assert child.returncode == 0, child.stderr
    for line in child.stdout.splitlines():
        growth, value = map(float, line.split())
        assert growth < 96 << 20
        assert value == rows - 1


KILLED = """
    import os, signal, sys, torch
    import tieralloc as ta
    from torch import nn
    import tieralloc.nn._loading as loading, tieralloc.nn._streams as streams
    loading._SEGMENT_BYTES, streams._CHUNK_BYTES = 4096, 1024
    kill_at, reads, read = int(sys.argv[3]), 0, os.preadv
    def killing(*arguments):
        global reads
        reads += 1
        if reads == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(*arguments)
    os.preadv = killing
    with torch.device("meta"):
        model = nn.ModuleDict({name: nn.Embedding(300, 16) for name in "abc"})
    store = ta.TieredStore(sys.argv[2], fast_bytes="1MiB")
    ta.nn.convert(model, store, checkpoint=sys.argv[1], verbose=False)
"""


def tables():
    return nn.ModuleDict(
        {
            name: nn.Embedding.from_pretrained(random_rows(300, 16, seed=seed))
            for seed, name in enumerate("abc")
        }
    )


def kill_load(folder, kill_at):
    """Kill a load at a read of the checkpoint; return the paths of both files."""
    path, checkpoint = folder / "rows.tier", save(tables(), "torch", folder)
    killed = run_python(KILLED, checkpoint, path, kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return path, checkpoint


def durable_rows(path):
    state = json.loads(Path(f"{path}.convert").read_text())
    return {name: entry["rows"] for name, entry in state["tables"].items()}


def resume(path, checkpoint, mode="r+"):
    """Convert again, and return the rows of each table."""
    with torch.device("meta"):
        model = nn.ModuleDict({name: nn.Embedding(300, 16) for name in "abc"})
    with ta.TieredStore(path, mode=mode, fast_bytes="1MiB") as store:
        ta.nn.convert(model, store, checkpoint=checkpoint, verbose=False)
        return {name: torch.from_numpy(store.table(name).lookup(np.arange(300))) for name in "abc"}


# Of 57 reads, 19 per table: in the first one, in the second one, and in the last segment.
@pytest.mark.parametrize("kill_at", [3, 30, 57])
def test_killed_load_goes_on_without_loading_again(folder, kill_at):
    path, checkpoint = kill_load(folder, kill_at)
    done = durable_rows(path)
    assert sum(done.values()) == {3: 0, 30: 428, 57: 856}[kill_at]
    mark = np.full((1, 16), 1.5, np.float32)  # loading the row again would undo this
    marked = [name for name, rows in done.items() if rows > 7]
    with ta.TieredStore(path, mode="r+", fast_bytes="1MiB") as store:
        for name in marked:
            store.table(name).update([7], mark)
    expected = {name: module.weight.clone() for name, module in tables().items()}
    for name in marked:
        expected[name][7] = 1.5
    resumed = resume(path, checkpoint)
    assert all(same_bits(resumed[name], rows) for name, rows in expected.items())
    assert not Path(f"{path}.convert").exists()


def test_changed_checkpoint_is_refused_but_not_for_a_new_store(folder):
    path, checkpoint = kill_load(folder, 30)
    torch.save(tables().state_dict(), checkpoint)
    before = durable_rows(path)
    with pytest.raises(ValueError, match="changed since the interrupted load"):
        resume(path, checkpoint)
    assert durable_rows(path) == before
    expected = tables()["c"].weight
    assert same_bits(resume(path, checkpoint, "w")["c"], expected)


def test_checkpoint_without_the_rows_changes_nothing(make_store, tmp_path):
    store = make_store(fast_rows=16)
    model = nn.ModuleDict({"a": nn.Embedding(30, 4), "b": nn.Embedding(20, 4)})
    torch.save({"a.weight": torch.zeros(30, 4), "b.weight": torch.zeros(21, 4)}, tmp_path / "c")
    with pytest.raises(ValueError, match=r"'b.weight': expected floats of shape \(20, 4\)"):
        ta.nn.convert(model, store, checkpoint=tmp_path / "c", verbose=False)
    torch.save({"a.weight": torch.zeros(4, 30).T, "b.weight": torch.zeros(20, 4)}, tmp_path / "c")
    with pytest.raises(ValueError, match=r"expected a tensor 'a.weight', dense and in row order"):
        ta.nn.convert(model, store, checkpoint=tmp_path / "c", verbose=False)
    with pytest.raises(ValueError, match="no effect with load=False"):
        ta.nn.convert(model, store, checkpoint=tmp_path / "c", load=False, verbose=False)
    (tmp_path / "c").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"expected a file of torch\.save"):
        ta.nn.convert(model, store, checkpoint=tmp_path / "c", verbose=False)
    assert type(model["a"]) is nn.Embedding
    assert not store.tables


@pytest.mark.parametrize("cut", [4, 40, -1])
def test_truncated_safetensors_file_is_refused(make_store, tmp_path, cut):
    path = save(tables(), "safetensors", tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    store = make_store(fast_rows=16)
    with pytest.raises(ValueError, match="not a safetensors file"):
        ta.nn.convert(tables(), store, checkpoint=path, verbose=False)
    assert not store.tables


def test_folder_of_npy_files_is_a_checkpoint(make_store, tmp_path):
    model = Scorer()
    for key, tensor in model.state_dict().items():
        np.save(tmp_path / f"{key}.npy", tensor.numpy())
    with torch.no_grad():
        expected = model(*CALL)
    with torch.device("meta"):
        other = Scorer()
    ta.nn.convert(other, make_store(), checkpoint=tmp_path, verbose=False)
    assert same_bits(other(*CALL), expected)


def test_npy_file_in_fortran_order_is_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.asfortranarray(np.zeros((3, 4), np.float32)))
    with pytest.raises(ValueError, match=r"rows\.npy: expected rows in C order"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("first", [0, 3, 6])
def test_narrowed_tensor_has_the_rows_of_the_range(tmp_path, first):
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    paths = [tmp_path / name for name in ("a.bin", "b.bin")]
    for path, part in zip(paths, np.split(rows, [4]), strict=True):
        path.write_bytes(part.tobytes())
    parts = (_Part(0, 4, paths[0], 0), _Part(4, 6, paths[1], 0))
    narrowed = StoredTensor((10, 4), torch.float32, parts).narrow(first, 8)
    np.testing.assert_array_equal(narrowed.read().numpy(), rows[first:8])
