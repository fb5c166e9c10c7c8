"""Trace files: reading returns the written trace; errors about invalid files name the file."""

import os
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from trace_strategies import bags_of_trace, trace_of_bags, traces

from tieralloc.trace import FORMATS, read, write

EXAMPLE = trace_of_bags([[[0, 2], []], [[1], [1, 1, 0]]], [3, 2])

in_one_directory = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def needs_torch(name):
    if name.endswith((".pt", ".pt.gz")):
        pytest.importorskip("torch")


@in_one_directory
@given(traces())
def test_npz_keeps_everything(tmp_path, trace):
    path = tmp_path / "shop.npz"
    write(trace, path)
    again = read(path)
    assert bags_of_trace(again) == bags_of_trace(trace)
    assert again.table_names == trace.table_names
    assert again.num_embeddings.tolist() == trace.num_embeddings.tolist()
    assert again.name == "shop"


def test_npz_has_documented_layout(tmp_path):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    with np.load(path) as arrays:
        contents = {name: (arrays[name].dtype, arrays[name].tolist()) for name in arrays}
    assert contents == {
        "indices": (np.dtype("int64"), [0, 2, 1, 1, 1, 0]),
        "offsets": (np.dtype("int64"), [0, 2, 2, 3, 6]),
        "lengths": (np.dtype("int32"), [[2, 0], [1, 3]]),
        "table_names": (np.dtype("<U7"), ["table 0", "table 1"]),
        "num_embeddings": (np.dtype("int64"), [3, 2]),
    }


@pytest.mark.parametrize("suffix", [".pt", ".pt.gz"])
@in_one_directory
@given(trace=traces())
def test_pt_keeps_bags_and_sizes_tables_by_highest_index(tmp_path, suffix, trace):
    pytest.importorskip("torch")
    path = tmp_path / f"meta{suffix}"
    write(trace, path)
    again = read(path)
    bags = bags_of_trace(trace)
    assert bags_of_trace(again) == bags
    assert again.table_names == [f"t{table}" for table in range(len(bags))]
    highest = [max((index for bag in table for index in bag), default=0) for table in bags]
    assert again.num_embeddings.tolist() == [index + 1 for index in highest]
    assert again.name == "meta"


def test_pt_contains_tuple_of_tensors_as_published_by_meta(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "t.pt"
    write(EXAMPLE, path)
    indices, offsets, lengths = torch.load(path, weights_only=True)
    assert (indices.dtype, offsets.dtype) == (torch.int64, torch.int64)
    assert indices.tolist() == [0, 2, 1, 1, 1, 0]
    assert offsets.tolist() == [0, 2, 2, 3, 6]
    assert lengths.tolist() == [[2, 0], [1, 3]]


@in_one_directory
@given(traces())
def test_oracle_general_keeps_access_stream(tmp_path, trace):
    assume(trace.num_lookups)
    path = tmp_path / "t.oracleGeneral"
    write(trace, path)
    again = read(path)
    # One row per object, in ascending order of the ids.
    distinct, rows = np.unique(trace.accesses(), return_inverse=True)
    assert again.accesses().tolist() == rows.tolist()
    assert again.lengths.tolist() == [[1] * trace.num_lookups]
    assert again.num_embeddings.tolist() == [len(distinct)]


@in_one_directory
@given(traces())
def test_oracle_general_contains_next_access_of_each_row(tmp_path, trace):
    path = tmp_path / "t.oracleGeneral.bin"
    write(trace, path)
    accesses = trace.accesses().tolist()
    records = list(struct.iter_unpack("<IQIq", path.read_bytes()))
    assert [record[1] for record in records] == accesses
    for number, (_, row, size, next_access) in enumerate(records):
        later = [other for other in range(number + 1, len(accesses)) if accesses[other] == row]
        # The first request is number 1.
        assert next_access == (later[0] + 1 if later else -1)
        assert size == 1
    times = [record[0] for record in records]
    samples = [[trace.samples(s, s + 1).num_lookups, s] for s in range(trace.num_samples)]
    assert times == [sample for lookups, sample in samples for _ in range(lookups)]


def test_read_oracle_general_accepts_any_ids_sizes_and_times(tmp_path):
    path = tmp_path / "cdn.oracleGeneral"
    ids = [2**64 - 1, 7, 2**64 - 1, 9]
    records = [(1_700_000_000, ids[0], 4096, 3), (0, 7, 0, -1), (5, ids[2], 1, -1), (6, 9, 1, -1)]
    path.write_bytes(b"".join(struct.pack("<IQIq", *record) for record in records))
    trace = read(path)
    assert trace.accesses().tolist() == [2, 0, 2, 1]
    assert trace.name == "cdn"


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.pt.gz"])
def test_read_unknown_suffix_detects_format_by_content(tmp_path, name):
    needs_torch(name)
    write(EXAMPLE, tmp_path / name)
    path = (tmp_path / name).rename(tmp_path / "trace.of.monday")
    trace = read(path)
    assert bags_of_trace(trace) == bags_of_trace(EXAMPLE)
    assert trace.name == "trace.of.monday"


def test_read_and_write_accept_format_name(tmp_path):
    path = tmp_path / "requests.bin"
    write(EXAMPLE, path, format="oracleGeneral")
    assert read(path, format="oracleGeneral").num_lookups == EXAMPLE.num_lookups
    with pytest.raises(ValueError, match=r"requests\.bin: unknown trace format; expected one of"):
        read(path)
    message = r"format: expected one of npz, pt, pt\.gz, oracleGeneral, got 'csv'"
    with pytest.raises(ValueError, match=message):
        read(path, format="csv")


def test_write_unknown_suffix_raises(tmp_path):
    with pytest.raises(ValueError, match=r"t\.csv: unknown suffix of a trace file; expected"):
        write(EXAMPLE, tmp_path / "t.csv")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "suffix", [suffix for trace_format in FORMATS.values() for suffix in trace_format.suffixes]
)
def test_read_empty_file_raises(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=rf"t{suffix}: the file is empty; expected a trace"):
        read(path)


def test_read_missing_file_raises_with_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        read(tmp_path / "missing.npz")


def test_read_directory_raises(tmp_path):
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.pt.gz"])
@in_one_directory
@given(share=st.floats(0, 1, exclude_max=True))
def test_read_truncated_file_raises_with_path(tmp_path, name, share):
    needs_torch(name)
    path = tmp_path / name
    write(EXAMPLE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=name):
        read(path)


def test_read_oracle_general_with_partial_request_raises(tmp_path):
    path = tmp_path / "t.oracleGeneral"
    write(EXAMPLE, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="expected a multiple of 24 bytes, got 143"):
        read(path)


@in_one_directory
@given(data=st.data())
def test_read_npz_with_changed_byte_raises_or_is_unaffected(tmp_path, data):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:  # Some bytes, such as a date, have no effect.
        result = bags_of_trace(read(path))
    except ValueError as error:
        result = str(error)
    assert result == bags_of_trace(EXAMPLE) or "t.npz" in result


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [(b"PK\x01\x02", 6, b"\x6d\x00"), (b"PK\x05\x06", 16, b"\xff\xff\xff\x7f")],
    ids=["later version", "member before start"],
)
def test_read_invalid_zip_raises_with_path(tmp_path, signature, offset, value):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    content = bytearray(path.read_bytes())
    position = content.index(signature) + offset
    content[position : position + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.npz"):
        read(path)


def test_read_oracle_general_with_past_next_access_raises(tmp_path):
    path = tmp_path / "t.oracleGeneral"
    path.write_bytes(struct.pack("<IQIq", 0, 1, 1, 2) + struct.pack("<IQIq", 0, 1, 1, 1))
    with pytest.raises(ValueError, match=r"request 1: expected a later next access, .* got 1"):
        read(path)


def test_read_suffix_of_other_format_raises(tmp_path):
    write(EXAMPLE, tmp_path / "t.npz")
    path = (tmp_path / "t.npz").rename(tmp_path / "t.pt")
    with pytest.raises(ValueError, match=r"t\.pt: expected format pt, got other content"):
        read(path)


@pytest.mark.parametrize("missing", ["indices", "offsets", "lengths", "table_names"])
def test_read_npz_without_array_raises(tmp_path, missing):
    write(EXAMPLE, tmp_path / "complete.npz")
    with np.load(tmp_path / "complete.npz") as arrays:
        others = {name: arrays[name] for name in arrays if name != missing}
    np.savez(tmp_path / "t.npz", **others)
    with pytest.raises(ValueError, match=rf"t\.npz: .* missing {missing}; expected indices"):
        read(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("indices", np.array([0.5] * 6), "indices: expected integers, got dtype float64"),
        ("indices", np.array([0, 3, 1, 1, 1, 0]), "indices: .* in table 'table 0', got 3"),
        ("table_names", np.array([1, 2]), "table_names: .* strings, got int64"),
        ("lengths", np.array([[2, 1], [1, 3]]), "bag 1: .* got offsets 2 to 2"),
    ],
)
def test_read_npz_with_invalid_array_raises(tmp_path, array, value, message):
    write(EXAMPLE, tmp_path / "complete.npz")
    with np.load(tmp_path / "complete.npz") as arrays:
        changed = {**arrays, array: value}
    np.savez(tmp_path / "t.npz", **changed)
    with pytest.raises(ValueError, match=rf"t\.npz: invalid npz trace: {message}"):
        read(tmp_path / "t.npz")


class FileCreator:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_read_npz_never_unpickles(tmp_path):
    write(EXAMPLE, tmp_path / "complete.npz")
    with np.load(tmp_path / "complete.npz") as arrays:
        names = np.array([FileCreator(tmp_path / "unpickled"), None])
        changed = {**arrays, "table_names": names}
    np.savez(tmp_path / "t.npz", **changed)
    with pytest.raises(ValueError, match=r"t\.npz: invalid npz trace"):
        read(tmp_path / "t.npz")
    assert not (tmp_path / "unpickled").exists()


def test_read_pt_never_unpickles_objects(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save((FileCreator(tmp_path / "unpickled"), 1, 2), tmp_path / "t.pt")
    with pytest.raises(ValueError, match=r"t\.pt: invalid pt trace"):
        read(tmp_path / "t.pt")
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {"indices": t([0])}, r"expected a tuple \(.*\), got a dict"),
        (lambda t: (t([0]), t([0, 1])), r"expected a tuple \(.*\), got a tuple of 2"),
        (lambda t: (t([0]), t([0, 1]), 3), "expected a tuple of tensors, got a int in it"),
        (lambda t: (t([0]), t([0, 1]), t([1])), r"lengths: .* got \(1,\)"),
        (lambda t: (t([0]), t([0, 1, 1]), t([[1]])), "offsets: expected 2, .* got 3"),
        (lambda t: (t([0.5]), t([0, 1]), t([[1]])), "expected tensors of integers, got float32"),
        (lambda t: (t([-1]), t([0, 1]), t([[1]])), "indices: .* in table 't0', got -1"),
        (lambda t: (t([4]), t([0, 1]), t([[2]])), "bag 0: .* got offsets 0 to 1"),
        (lambda t: (t([4, 5]), t([0, 9, 2]), t([[9], [-7]])), "lengths: .* got -7"),
    ],
)
def test_read_pt_of_other_content_raises(tmp_path, content, message):
    torch = pytest.importorskip("torch")
    torch.save(content(torch.tensor), tmp_path / "t.pt")
    with pytest.raises(ValueError, match=rf"t\.pt: invalid pt trace: {message}"):
        read(tmp_path / "t.pt")


def test_read_pt_accepts_int32_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    values = [0, 2], [0, 1, 2], [[1], [1]]
    torch.save(tuple(torch.tensor(value, dtype=torch.int32) for value in values), tmp_path / "t.pt")
    assert bags_of_trace(read(tmp_path / "t.pt")) == [[[0]], [[2]]]


def test_pt_without_torch_names_the_extra_to_install(tmp_path, monkeypatch):
    path = tmp_path / "t.pt"
    path.write_bytes(b"\x80\x02.")  # as torch before 1.6
    monkeypatch.setitem(sys.modules, "torch", None)
    for attempt in (lambda: read(path), lambda: write(EXAMPLE, tmp_path / "other.pt")):
        with pytest.raises(ImportError, match=r"pip install 'tieralloc\[torch\]'"):
            attempt()
    assert os.listdir(tmp_path) == ["t.pt"]


def test_write_fails_keeps_existing_file(tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    before = path.read_bytes()

    def fill_the_disk(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write(EXAMPLE, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.npz"]


def test_write_to_missing_directory_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(EXAMPLE, tmp_path / "missing" / "t.npz")


def test_write_same_trace_gives_same_bytes(tmp_path):
    for suffix in (".npz", ".oracleGeneral"):
        write(EXAMPLE, tmp_path / f"a{suffix}")
        write(EXAMPLE, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
