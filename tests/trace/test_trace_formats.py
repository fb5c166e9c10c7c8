"""Trace files: what is written is read, and what is no sound trace is refused by name."""

import os
import struct
import sys
import zipfile

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


def test_npz_has_the_layout_that_is_documented(tmp_path):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    with np.load(path) as arrays:
        found = {name: (arrays[name].dtype, arrays[name].tolist()) for name in arrays}
    assert found == {
        "indices": (np.dtype("int64"), [0, 2, 1, 1, 1, 0]),
        "offsets": (np.dtype("int64"), [0, 2, 2, 3, 6]),
        "lengths": (np.dtype("int32"), [[2, 0], [1, 3]]),
        "table_names": (np.dtype("<U7"), ["table 0", "table 1"]),
        "num_embeddings": (np.dtype("int64"), [3, 2]),
    }


@pytest.mark.parametrize("suffix", [".pt", ".pt.gz"])
@in_one_directory
@given(trace=traces())
def test_pt_keeps_the_bags_and_sizes_tables_by_their_highest_index(tmp_path, suffix, trace):
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


def test_pt_is_the_tuple_of_tensors_that_meta_publishes(tmp_path):
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
def test_oracle_general_keeps_the_access_stream(tmp_path, trace):
    assume(trace.num_lookups)
    path = tmp_path / "t.oracleGeneral"
    write(trace, path)
    again = read(path)
    # One row for each object, in ascending order of the ids.
    distinct, rows = np.unique(trace.accesses(), return_inverse=True)
    assert again.accesses().tolist() == rows.tolist()
    assert again.lengths.tolist() == [[1] * trace.num_lookups]
    assert again.num_embeddings.tolist() == [len(distinct)]


@in_one_directory
@given(traces())
def test_oracle_general_says_when_each_row_is_next_accessed(tmp_path, trace):
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


def test_oracle_general_of_others_is_read_whatever_its_ids_sizes_and_times(tmp_path):
    path = tmp_path / "cdn.oracleGeneral"
    ids = [2**64 - 1, 7, 2**64 - 1, 9]
    records = [(1_700_000_000, ids[0], 4096, 3), (0, 7, 0, -1), (5, ids[2], 1, -1), (6, 9, 1, -1)]
    path.write_bytes(b"".join(struct.pack("<IQIq", *record) for record in records))
    trace = read(path)
    assert trace.accesses().tolist() == [2, 0, 2, 1]
    assert trace.name == "cdn"


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.pt.gz"])
def test_a_file_of_unknown_suffix_is_known_by_its_content(tmp_path, name):
    needs_torch(name)
    write(EXAMPLE, tmp_path / name)
    path = (tmp_path / name).rename(tmp_path / "trace.of.monday")
    trace = read(path)
    assert bags_of_trace(trace) == bags_of_trace(EXAMPLE)
    assert trace.name == "trace.of.monday"


def test_the_caller_may_name_the_format(tmp_path):
    path = tmp_path / "requests.bin"
    write(EXAMPLE, path, format="oracleGeneral")
    assert read(path, format="oracleGeneral").num_lookups == EXAMPLE.num_lookups
    with pytest.raises(ValueError, match=r"of no known trace format, expected a name ending in"):
        read(path)
    with pytest.raises(ValueError, match=r"'csv' is unknown; known are npz, pt, pt\.gz, oracle"):
        read(path, format="csv")


def test_writing_to_a_suffix_of_no_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"t\.csv has a suffix of no trace format"):
        write(EXAMPLE, tmp_path / "t.csv")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "suffix", [suffix for known in FORMATS.values() for suffix in known.suffixes]
)
def test_an_empty_file_is_no_trace(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=rf"t{suffix} is empty, expected a trace"):
        read(path)


def test_a_file_that_is_not_there_is_an_oserror_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere.npz")


def test_a_directory_is_an_oserror(tmp_path):
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.pt.gz"])
@in_one_directory
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_by_name(tmp_path, name, kept):
    needs_torch(name)
    path = tmp_path / name
    write(EXAMPLE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=name):
        read(path)


def test_oracle_general_cut_within_a_request_is_refused(tmp_path):
    path = tmp_path / "t.oracleGeneral"
    write(EXAMPLE, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is 143 bytes long, expected a multiple of 24"):
        read(path)


@in_one_directory
@given(data=st.data())
def test_an_npz_with_a_byte_changed_is_refused_or_read_as_it_was(tmp_path, data):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:  # A byte may carry nothing, such as those of a date.
        found = bags_of_trace(read(path))
    except ValueError as error:
        found = str(error)
    assert found == bags_of_trace(EXAMPLE) or "t.npz" in found


@pytest.mark.parametrize(
    ("mark", "place", "value"),
    [(b"PK\x01\x02", 6, b"\x6d\x00"), (b"PK\x05\x06", 16, b"\xff\xff\xff\x7f")],
    ids=["a later version", "members before its beginning"],
)
def test_a_zip_that_cannot_be_is_refused_by_name(tmp_path, mark, place, value):
    path = tmp_path / "t.npz"
    write(EXAMPLE, path)
    content = bytearray(path.read_bytes())
    at = content.index(mark) + place
    content[at : at + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.npz"):
        read(path)


@in_one_directory
@given(content=st.binary(min_size=1), suffix=st.sampled_from([".npz", ".pt", ".pt.gz"]))
def test_bytes_of_another_kind_are_refused_by_name(tmp_path, content, suffix):
    needs_torch(suffix)
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"t{suffix}"):
        read(path)


def test_an_oracle_general_request_whose_next_access_is_not_later_is_refused(tmp_path):
    path = tmp_path / "t.oracleGeneral"
    path.write_bytes(struct.pack("<IQIq", 0, 1, 1, 2) + struct.pack("<IQIq", 0, 1, 1, 1))
    with pytest.raises(ValueError, match="request 1 has its next access at 1, expected a later"):
        read(path)


def test_a_trace_of_one_format_under_the_suffix_of_another_is_refused(tmp_path):
    write(EXAMPLE, tmp_path / "t.npz")
    path = (tmp_path / "t.npz").rename(tmp_path / "t.pt")
    with pytest.raises(ValueError, match=r"t\.pt is not a file of format pt"):
        read(path)


@pytest.mark.parametrize("missing", ["indices", "offsets", "lengths", "table_names"])
def test_an_npz_without_one_of_its_arrays_is_refused(tmp_path, missing):
    write(EXAMPLE, tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as arrays:
        rest = {name: arrays[name] for name in arrays if name != missing}
    np.savez(tmp_path / "t.npz", **rest)
    with pytest.raises(ValueError, match=rf"t\.npz .* has no {missing}, expected indices"):
        read(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("indices", np.array([0.5] * 6), "indices are of dtype float64"),
        ("indices", np.array([0, 3, 1, 1, 1, 0]), "indices hold 3 in table 'table 0'"),
        ("table_names", np.array([1, 2]), "table_names are of dtype int64"),
        ("lengths", np.array([[2, 1], [1, 3]]), "bag 1 runs from offset 2 to 2"),
    ],
)
def test_an_npz_of_wrong_arrays_is_refused(tmp_path, array, value, message):
    write(EXAMPLE, tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as arrays:
        changed = {**arrays, array: value}
    np.savez(tmp_path / "t.npz", **changed)
    with pytest.raises(ValueError, match=rf"t\.npz is no sound trace of format npz: {message}"):
        read(tmp_path / "t.npz")


class Trap:
    """Unpickles by writing a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    write(EXAMPLE, tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as arrays:
        changed = {**arrays, "table_names": np.array([Trap(tmp_path / "sprung"), None])}
    np.savez(tmp_path / "t.npz", **changed)
    with pytest.raises(ValueError, match=r"t\.npz is no sound trace"):
        read(tmp_path / "t.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_in_a_pt_is_never_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save((Trap(tmp_path / "sprung"), 1, 2), tmp_path / "t.pt")
    with pytest.raises(ValueError, match=r"t\.pt is no sound trace"):
        read(tmp_path / "t.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {"indices": t([0])}, "holds no tuple of three"),
        (lambda t: (t([0]), t([0, 1])), "holds no tuple of three"),
        (lambda t: (t([0]), t([0, 1]), 3), "holds a int, expected tensors"),
        (lambda t: (t([0]), t([0, 1]), t([1])), r"lengths have shape \(1,\)"),
        (lambda t: (t([0]), t([0, 1, 1]), t([[1]])), "offsets are 3, expected 2"),
        (lambda t: (t([0.5]), t([0, 1]), t([[1]])), "a tensor of dtype float32"),
        (lambda t: (t([-1]), t([0, 1]), t([[1]])), "indices hold -1 in table 't0'"),
        (lambda t: (t([4]), t([0, 1]), t([[2]])), "bag 0 runs from offset 0 to 1"),
        (lambda t: (t([4, 5]), t([0, 9, 2]), t([[9], [-7]])), "lengths hold -7"),
    ],
)
def test_a_pt_of_other_content_is_refused(tmp_path, content, message):
    torch = pytest.importorskip("torch")
    torch.save(content(torch.tensor), tmp_path / "t.pt")
    with pytest.raises(ValueError, match=rf"t\.pt is no sound trace of format pt: .*{message}"):
        read(tmp_path / "t.pt")


def test_a_pt_of_int32_tensors_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    values = [0, 2], [0, 1, 2], [[1], [1]]
    torch.save(tuple(torch.tensor(value, dtype=torch.int32) for value in values), tmp_path / "t.pt")
    assert bags_of_trace(read(tmp_path / "t.pt")) == [[[0]], [[2]]]


def test_without_torch_a_pt_says_which_extra_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "t.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t/data.pkl", b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    for attempt in (lambda: read(path), lambda: write(EXAMPLE, tmp_path / "other.pt")):
        with pytest.raises(ImportError, match=r"pip install 'tieralloc\[torch\]'"):
            attempt()
    assert os.listdir(tmp_path) == ["t.pt"]


def test_a_write_that_fails_leaves_what_stood_there(tmp_path, monkeypatch):
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


def test_writing_into_a_directory_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(EXAMPLE, tmp_path / "nowhere" / "t.npz")


def test_the_same_trace_makes_the_same_bytes(tmp_path):
    for suffix in (".npz", ".oracleGeneral"):
        write(EXAMPLE, tmp_path / f"a{suffix}")
        write(EXAMPLE, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
