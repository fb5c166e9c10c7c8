"""Trace files of unknown origin: bounded memory, and ValueError with the path for any content."""

import gzip
import io
import pickle
import random
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run_python
from test_trace_formats import EXAMPLE, in_one_directory
from trace_strategies import bags_of_trace

from tieralloc.trace import FORMATS, read, write

GIB = 1 << 30

# Reads sys.argv[1] with 1 GiB of memory more than is in use.
BOUNDED_READ = f"""
import resource, sys
import tieralloc.trace
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {GIB}, used + {GIB}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    tieralloc.trace.read(sys.argv[1])
except ValueError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def pickled_tensors(*tensors):
    """Return the pickle of tensors: (dtype, key, elements of the storage, shape, strides)."""

    class Name:
        def __init__(self, module, name):
            self.module, self.name = module, name

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return value if isinstance(value, tuple) and value[:1] == ("storage",) else None

        def save(self, value, *args, **kwargs):
            if isinstance(value, Name):
                self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
            elif isinstance(value, list) and isinstance(value[0], Name):
                self.save(value[0])
                self.save(tuple(value[1:]))
                self.write(b"R")
            else:
                super().save(value, *args, **kwargs)

    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    packed = io.BytesIO()
    Pickler(packed, 2).dump(
        tuple(
            [
                rebuild,
                ("storage", Name("torch", dtype), key, "cpu", elements),
                0,
                shape,
                strides,
                False,
                {},
            ]
            for dtype, key, elements, shape, strides in tensors
        )
    )
    return packed.getvalue()


def pt_file(path, content, *, compression=zipfile.ZIP_STORED, **records):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("t/data.pkl", content)
        for key, record in records.items():
            archive.writestr(f"t/data/{key}", record)


ONE = ("LongStorage", "a", 1, (1,), (1,))
VALID = (ONE, ("LongStorage", "b", 2, (2,), (1,)), ("LongStorage", "a", 1, (1, 1), (1, 1)))
RECORDS = {"a": struct.pack("<q", 1), "b": struct.pack("<2q", 0, 1)}


def test_read_pt_by_hand_without_torch(tmp_path):
    pt_file(tmp_path / "t.pt", pickled_tensors(*VALID), **RECORDS)
    assert bags_of_trace(read(tmp_path / "t.pt")) == [[[1]]]


def expanded(path):
    """A tensor of one element that is repeated 2**31 times, in each of three ways."""
    many = 1 << 31
    tensors = (
        ("LongStorage", "a", 1, (many,), (0,)),
        ("LongStorage", "b", 2, (2,), (1,)),
        ("LongStorage", "a", 1, (1, many), (0, 0)),
    )
    pt_file(path, pickled_tensors(*tensors), **RECORDS)


def declared(path):
    """A storage that the pickle declares to be longer than its record."""
    many = 1 << 31
    tensors = (("LongStorage", "a", many, (many,), (1,)), *VALID[1:])
    pt_file(path, pickled_tensors(*tensors), **RECORDS)


def outside(path):
    tensors = (("LongStorage", "b", 2, (2,), (1 << 40,)), *VALID[1:])
    pt_file(path, pickled_tensors(*tensors), **RECORDS)


def many_tables(path):
    """As many tables as bytes of memory, without a sample."""
    many = 1 << 40
    tensors = (*VALID[:2], ("LongStorage", "a", 1, (many, 0), (1, 1)))
    pt_file(path, pickled_tensors(*tensors), **RECORDS)


def memo(path):
    """A position in the memo for which C's unpickler allocates 32 GiB."""
    pt_file(path, b"\x80\x02Nr" + struct.pack("<I", 1 << 31) + b".", **RECORDS)


def long_bytes(path):
    content = b"\x80\x04\x96" + struct.pack("<Q", 1 << 34) + b"."
    pt_file(path, content, **RECORDS)


def compressed(path):
    """A record that bzip2 compresses far better than deflate."""
    zeros = bytes(1 << 27)
    tensors = (("LongStorage", "z", 1 << 24, (1 << 24,), (1,)), *VALID[1:])
    pt_file(path, pickled_tensors(*tensors), compression=zipfile.ZIP_BZIP2, z=zeros, **RECORDS)


def overlapping(path):
    """Members that share their bytes: each alone expands as deflate can."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 24)
    packed = packer.compress(zeros) + packer.flush()
    times = 200
    names = [b"t/data.pkl", *(f"t/data/{number:03}".encode() for number in range(1, times))]
    fields = (20, 0, 8, 0, 0, zlib.crc32(zeros), len(packed), len(zeros), len(names[0]), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields) + names[0] + packed
    central = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *fields, 0, 0, 0, 0, 0) + name
        for name in names
    )
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, times, times, len(central), len(local), 0)
    path.write_bytes(local + central + end)


def npz_with(path, array, descr, shape):
    """A trace with one array replaced by a header alone."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path.with_name("valid.npz")) as valid, zipfile.ZipFile(path, "w") as file:
        for name in valid.namelist():
            file.writestr(name, member if name == f"{array}.npy" else valid.read(name))


def empty_strings(path):
    """An array of 2**33 empty strings, in no bytes."""
    npz_with(path, "table_names", "<U0", (1 << 33,))


def declared_array(path):
    npz_with(path, "indices", "<i8", (1 << 32,))


BOMBS = {
    "pt": [expanded, declared, outside, many_tables, memo, long_bytes, compressed, overlapping],
    "npz": [empty_strings, declared_array],
}


@pytest.mark.parametrize(
    ("suffix", "make"),
    [(suffix, make) for suffix, bombs in BOMBS.items() for make in bombs],
    ids=[make.__name__ for bombs in BOMBS.values() for make in bombs],
)
def test_small_file_that_declares_gigabytes_is_refused(tmp_path, suffix, make):
    write(EXAMPLE, tmp_path / "valid.npz")
    path = tmp_path / f"t.{suffix}"
    make(path)
    assert path.stat().st_size < 64 << 10
    run = run_python(BOUNDED_READ, path)
    assert run.returncode == 0, run.stderr
    message, growth_kib = run.stdout.splitlines()
    assert message.startswith(f"{path}: invalid {suffix} trace: ")
    assert "alloc" not in message  # refused before, not by the limit
    assert int(growth_kib) < 64 << 10


def test_legacy_pt_of_repeated_elements_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    many = torch.zeros(1, dtype=torch.int64).expand(1 << 31)
    content = (many, torch.tensor([0, 1 << 31]), many[:1].reshape(1, 1))
    path = tmp_path / "t.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert path.stat().st_size < 4 << 10
    with pytest.raises(ValueError, match=r"t\.pt: invalid pt trace: .* larger than its storage"):
        read(path)


def test_legacy_pt_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = tuple(torch.from_numpy(a.copy()) for a in (EXAMPLE.indices, EXAMPLE.offsets))
    content = (*tensors, torch.from_numpy(EXAMPLE.lengths.copy()))
    torch.save(content, tmp_path / "t.pt", _use_new_zipfile_serialization=False)
    assert bags_of_trace(read(tmp_path / "t.pt")) == bags_of_trace(EXAMPLE)


def test_read_pt_of_views_and_big_endian_records(tmp_path):
    numbers = np.arange(12, dtype=">i8")
    tensors = (
        ("LongStorage", "a", 12, (3,), (4,)),  # every fourth
        ("LongStorage", "b", 2, (2,), (1,)),
        ("LongStorage", "c", 1, (1, 1), (1, 1)),
    )
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("t/data.pkl", pickled_tensors(*tensors))
        archive.writestr("t/byteorder", "big")
        for key, values in {"a": numbers, "b": [0, 3], "c": [3]}.items():
            archive.writestr(f"t/data/{key}", np.array(values, dtype=">i8").tobytes())
    assert read(tmp_path / "t.pt").indices.tolist() == [0, 4, 8]


def mutated(content, rng):
    """Return the content after some changes of bytes, cuts and repetitions."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        change = rng.randrange(5)
        if change == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif change == 1:
            content[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
        elif change == 2:
            del content[at : at + rng.randint(1, 16)]
        elif change == 3:
            other = rng.randrange(len(content) + 1)
            content[at:at] = content[other : other + rng.randint(1, 32)]
        else:
            content[at : at + 8] = struct.pack(
                rng.choice("<>") + "q", rng.choice((-1, 1 << 62, 1 << 31, 1 << 40, 255))
            )
    return bytes(content)


def members_mutated(path, rng):
    """Return a zip file with one mutated member, whose checksum is right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w") as changed:
        names = archive.namelist()
        victim = rng.choice(names)
        for name in names:
            content = archive.read(name)
            changed.writestr(name, mutated(content, rng) if name == victim else content)
    return packed.getvalue()


@pytest.mark.filterwarnings("ignore:Reading .*header parsing:UserWarning")
@pytest.mark.parametrize("format", FORMATS)
def test_fuzzed_trace_is_read_or_refused_with_its_path(tmp_path, format):
    """Only ValueError with the path, for any change of a valid file."""
    if format.startswith("pt"):
        pytest.importorskip("torch")
    suffix = FORMATS[format].suffixes[0]
    path = tmp_path / f"t{suffix}"
    write(EXAMPLE, path)
    valid = path.read_bytes()
    inner = tmp_path / "inner"
    if format != "oracleGeneral":
        inner.write_bytes(gzip.decompress(valid) if format == "pt.gz" else valid)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * GIB, hard))
    try:
        for seed in range(1500):
            rng = random.Random(seed)
            if inner.exists() and rng.random() < 0.7:
                content = members_mutated(inner, rng)
                content = gzip.compress(content) if format == "pt.gz" else content
            else:
                content = mutated(valid, rng)
            path.write_bytes(content)
            try:
                read(path)
            except Exception as error:
                is_documented = isinstance(error, ValueError) and f"{path}: " in str(error)
                if not is_documented:
                    raise AssertionError(f"seed {seed} raises {error!r}") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@in_one_directory
@given(content=st.binary(min_size=1, max_size=200))
def test_read_pt_of_any_pickle_raises_with_path(tmp_path, content):
    path = tmp_path / "t.pt"
    pt_file(path, b"\x80\x02" + content + b".", **RECORDS)
    with pytest.raises(ValueError, match=r"t\.pt: invalid pt trace: "):
        read(path)
