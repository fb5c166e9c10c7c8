"""Headers of safetensors and .npy files, valid and damaged, against those packages."""

import io
import json
import os
import random
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from checkpoint_support import read_header, store_of, write_safetensors

from tieralloc.checkpoint.npy import read_npy
from tieralloc.checkpoint.safetensors import read_safetensors
from tieralloc.checkpoint.tensor import open_source

MUTATIONS = 10_000
WORDS = [b"F32", b"BF16", b"F4", b"shape", b"data_offsets", b"[", b"]", b"{", b"}", b",", b'"']
NUMBERS = [b"0", b"-1", b"1e3", b"1.0", b"18446744073709551615", b"9223372036854775807", b"4", b"7"]


def mutated(content, chance):
    """Return bytes with some places flipped, deleted, repeated, or replaced by words."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        at = chance.randrange(len(content)) if content else 0
        kind = chance.randrange(6)
        if kind == 0 and content:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del content[at : at + chance.choice([1, 1, 4, 50])]
        elif kind == 2:
            content[at:at] = content[at : at + chance.choice([1, 9, 80])]
        elif kind == 3:
            content[at : at + chance.choice([0, 1, 3])] = chance.choice(WORDS + NUMBERS)
        elif kind == 4:
            content[at:at] = bytes(chance.choices(range(256), k=chance.choice([1, 8])))
        else:
            length = chance.choice([0, 1, 2**16, 2**27, 2**63, 2**64 - 1, len(content)])
            content[:8] = struct.pack("<Q", length)
    return bytes(content)


@pytest.fixture
def memory_folder():
    """Return a folder in memory if possible: thousands of files would wait for a disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tieralloc-test-", dir=memory) as path:
        yield Path(path)


def check_mutations(samples, path, read, oracle):
    """Read mutations of files: errors, or what the oracle reads; in memory of the file's size."""
    chance = random.Random(0)
    accepted = 0
    tracemalloc.start()
    try:
        for _ in range(MUTATIONS):
            sample = chance.choice(samples)
            # The header is the larger part of most mutations.
            cut = chance.choice([len(sample), 200, 60])
            content = mutated(sample[:cut], chance) + sample[cut:]
            path.write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            found, refused = None, f"{path}: "
            try:
                with open_source(str(path)) as source:
                    found = read(source)
            except ValueError as error:
                refused = str(error)
            assert refused.startswith(f"{path}: ")
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak < 100_000 + 40 * len(content), (peak, content)
            if found is not None:
                accepted += 1
                oracle(content, found)
    finally:
        tracemalloc.stop()
    assert accepted > MUTATIONS / 100


def safetensors_samples():
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {
        "item": np.arange(12, dtype=np.float32).reshape(4, 3),
        "user": np.arange(10, dtype=np.uint8).reshape(2, 5),
        "x": np.zeros((0, 3), np.float16),
        "bias": np.ones(3, np.float64),
    }
    samples = [numpy.save(arrays), numpy.save(arrays, metadata={"format": "pt"}), numpy.save({})]
    return [sample for sample in samples for _ in range(2)]


def test_mutated_safetensors_are_errors_or_read_as_the_package_does(memory_folder):
    deserialize = pytest.importorskip("safetensors").deserialize

    def oracle(content, found):
        expected = dict(deserialize(content))
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert list(tensor.shape) == expected[name]["shape"]
            size = len(expected[name]["data"])
            assert content[tensor.offset : tensor.offset + size] == bytes(expected[name]["data"])

    check_mutations(
        safetensors_samples(), memory_folder / "a.safetensors", read_safetensors, oracle
    )


def test_files_of_the_package_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    for sample in safetensors_samples():
        path.write_bytes(sample)
        with open_source(str(path)) as source:
            names = set(read_safetensors(source))
        assert names == {name for name in read_header(path)[0] if name != "__metadata__"}


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"t": ENTRY | {"data_offsets": [0, 12]}}, "expected 16 bytes for F32 of shape"),
        ({"t": ENTRY | {"data_offsets": [4, 20]}}, "expected data_offsets from 0 on"),
        ({"t": ENTRY | {"data_offsets": [16, 0]}}, "data_offsets that ascend"),
        ({"t": ENTRY | {"data_offsets": [0, 16, 16]}}, "data_offsets that ascend"),
        ({"t": ENTRY | {"dtype": "F99"}}, "expected a dtype such as F32, got 'F99'"),
        ({"t": ENTRY | {"shape": [2.0, 2]}}, "expected lists of integers"),
        ({"t": ENTRY | {"shape": [True, 4]}}, "expected lists of integers"),
        ({"t": ENTRY | {"shape": [-2, -2]}}, "expected an integer of 0 to"),
        ({"t": ENTRY | {"shape": [2**63, 2**63]}}, "its shape overflows"),
        ({"t": ENTRY | {"dtype": "F4", "shape": [3]}}, "expected 2 bytes for F4"),
        ({"t": 7}, "expected dtype, shape and data_offsets"),
        ({"t": ENTRY, "u": ENTRY}, "where the tensor before ends"),
        ({"t": ENTRY, "__metadata__": {"a": 1}}, "__metadata__: expected texts"),
        ({"t": ENTRY, "u": ENTRY | {"data_offsets": [16, 32]}}, "expected 1.. bytes, got"),
        ({}, "truncated, or too long"),
        (b'{"t":{}, "t":{}}', "each name once, got 't' again"),
        (b'["t"]', "expected a JSON object"),
        (b" {}", "expected a JSON object"),
        (b'{"\xff":1}', "invalid start byte"),
        (b'{"a":' * 40_000, "recursion|Expecting"),
        (b"{ ", "Expecting property name"),
    ],
)
def test_invalid_safetensors_header_is_refused(tmp_path, header, message):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, header, bytes(16))
    with pytest.raises(ValueError, match=rf"a\.safetensors: not a safetensors file: .*{message}"):
        store_of(path)


def test_empty_and_lying_lengths_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    for content in (b"", b"\1", bytes(8), b"\xff" * 8, struct.pack("<Q", 3) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="header: expected 2 to"):
            store_of(path)


def npy_samples():
    samples = []
    for array in (
        np.arange(12, dtype=np.float32).reshape(4, 3),
        np.arange(10, dtype=np.uint8).reshape(2, 5),
        np.array([[b"abc", b"d"]]),
        np.ones((3, 4), np.float16),
    ):
        for version in ((1, 0), (2, 0), (3, 0)):
            file = io.BytesIO()
            np.lib.format.write_array(file, array, version, allow_pickle=False)
            samples.append(file.getvalue())
    return samples


def test_mutated_npy_files_are_errors_or_read_as_numpy_does(memory_folder):
    def oracle(content, found):
        expected = np.load(io.BytesIO(content), allow_pickle=False)
        assert found.shape == expected.shape
        data = expected.tobytes()
        assert content[found.offset : found.offset + len(data)] == data

    check_mutations(npy_samples(), memory_folder / "a.npy", read_npy, oracle)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.asfortranarray(np.ones((4, 3))), "expected an array in C order"),
        (np.ones((4, 3), ">f4"), "expected little-endian elements"),
        (np.zeros(4, [("a", "f4")]), "expected little-endian elements"),
        (np.ones(4), "no tensor of two dimensions"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        store_of(tmp_path / "a.npy")


def test_truncated_npy_file_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 3)))
    content = (tmp_path / "a.npy").read_bytes()
    for size in (0, 5, 9, 60, len(content) - 1):
        (tmp_path / "a.npy").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.npy: not a \.npy file of plain rows"):
            store_of(tmp_path / "a.npy")


def test_header_json_and_names_are_unicode(tmp_path):
    entry = ENTRY | {"extra": None}
    write_safetensors(tmp_path / "a.safetensors", {"tàble ☃": entry}, bytes(16), 3)
    with store_of(tmp_path / "a.safetensors", fast_rows=4) as store:
        assert list(store.tables) == ["tàble ☃"]
        assert store.table("tàble ☃").lookup([1]).tolist() == [[0, 0]]
    write_safetensors(tmp_path / "b.safetensors", json.dumps({"\ud800": ENTRY}).encode(), bytes(16))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        store_of(tmp_path / "b.safetensors")
