"""Delta files: written, read, truncated and damaged; versions that do not follow."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import store_of

import tieralloc as ta
from tieralloc.delta import (
    DamagedDeltaError,
    DuplicateDeltaError,
    MissingDeltaError,
    OutOfOrderDeltaError,
    TruncatedDeltaError,
)

VALUES = np.arange(48, dtype=np.float32).reshape(3, 16)


@pytest.fixture
def store(tmp_path):
    with store_of(tmp_path / "new.tier", fast_rows=20) as store:
        store.create_table("item", 50, 16).load(np.ones((50, 16), np.float32))
        store.create_table("user", 30, 16)
        yield store


def make_delta(version=1, follows=0):
    parts = [("item", [1, 2, 3], VALUES), ("user", [4, 5, 6], VALUES + 1), ("item", [9], None)]
    return ta.Delta(version, follows, parts)


def rows_of(store):
    return [table.lookup(np.arange(len(table))) for table in store.tables.values()]


def check_unchanged(store, before, version=0):
    assert store.version == version
    for found, rows in zip(rows_of(store), before, strict=True):
        np.testing.assert_array_equal(found, rows)


def test_file_applies_as_arrays_do(store, tmp_path):
    make_delta().write(tmp_path / "d")
    assert store.apply(tmp_path / "d").rows == 7
    np.testing.assert_array_equal(store.table("item").lookup([1, 2, 3]), VALUES)
    np.testing.assert_array_equal(store.table("user").lookup([4, 5, 6]), VALUES + 1)
    assert not store.table("item").lookup([9]).any()
    assert store.version == 1


def test_truncated_file_is_told_and_not_applied(store, tmp_path):
    make_delta().write(tmp_path / "d")
    whole, before = (tmp_path / "d").read_bytes(), rows_of(store)
    for size in range(1, len(whole), 3):
        (tmp_path / "d").write_bytes(whole[:size])
        with pytest.raises(TruncatedDeltaError, match=f"truncated.*after {size} bytes"):
            store.apply(tmp_path / "d")
    check_unchanged(store, before)
    (tmp_path / "d").write_bytes(whole)
    store.apply(tmp_path / "d")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a store that refuses all deltas that it gets, and the content of a whole one."""
    path = tmp_path_factory.mktemp("shared") / "new.tier"
    make_delta().write(path.with_name("d"))
    with store_of(path, fast_rows=20) as store:
        store.create_table("item", 50, 16)
        store.create_table("user", 30, 16)
        yield store, path.with_name("d"), path.with_name("d").read_bytes()


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7), kind=st.sampled_from("fizdc"))
def test_damaged_file_is_told_and_not_applied(shared, at, bit, kind):
    store, path, whole = shared
    content = bytearray(whole)
    at %= len(content)
    if kind == "f":
        content[at] ^= 1 << bit
    elif kind == "i":
        content[at:at] = b"PART"
    elif kind == "z":
        content[at:] = bytes(len(content) - at)
    elif kind == "d":
        del content[at : at + 1 + bit]
    else:
        content += bytes(1 + bit)
    if bytes(content) == whole:
        return
    path.write_bytes(content)
    with pytest.raises((DamagedDeltaError, TruncatedDeltaError)):
        store.apply(path)
    assert store.version == 0
    assert not any(rows.any() for rows in rows_of(store))


def test_huge_sizes_in_a_file_take_no_memory(store, tmp_path):
    make_delta().write(tmp_path / "d")
    content = bytearray((tmp_path / "d").read_bytes())
    struct.pack_into("<Q", content, 32 + 16, 1 << 60)  # rows of the first part, with its checksum
    struct.pack_into("<I", content, 32 + 4, 0)
    struct.pack_into("<I", content, 32 + 4, zlib.crc32(content[32 : 32 + 40]))
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(DamagedDeltaError, match="damaged at offset 32"):
        store.apply(tmp_path / "d")


def test_other_files_are_refused_by_name(store, tmp_path):
    for content, text in (
        (b"", "not a delta"),
        (b"PK\3\4" + bytes(100), "not a delta"),
        (b"TIERDELT\2\0\0\0" + bytes(20), "format 2; expected at most 1"),
    ):
        (tmp_path / "d").write_bytes(content)
        with pytest.raises(DamagedDeltaError, match=text):
            store.apply(tmp_path / "d")
    with pytest.raises(FileNotFoundError):
        store.apply(tmp_path / "missing")


@pytest.mark.parametrize(
    ("version", "follows", "kind", "text"),
    [
        (4, 2, DuplicateDeltaError, "applied already; expected one that follows 4"),
        (6, 5, MissingDeltaError, "a delta is missing; expected one that follows 4, got 5"),
        (2, 1, OutOfOrderDeltaError, "out of order, an older delta; expected one that follows 4"),
        (5, 2, OutOfOrderDeltaError, "out of order, a delta of another sequence"),
    ],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_delta_that_does_not_follow_is_refused(
    store, tmp_path, version, follows, kind, text, is_file
):
    store.apply(make_delta(4, 0))
    before = rows_of(store)
    delta = make_delta(version, follows)
    if is_file:
        delta.write(tmp_path / "d")
        delta = tmp_path / "d"
    with pytest.raises(kind, match=f"at version 4, the delta leads from {follows} to {version}: "):
        store.apply(delta)
    with pytest.raises(kind, match=text):
        store.apply(delta)
    check_unchanged(store, before, 4)


def test_refused_iterator_is_not_consumed(store):
    parts = iter([("item", [1], None)])
    with pytest.raises(MissingDeltaError):
        store.apply(ta.Delta(3, 2, parts))
    assert len(list(parts)) == 1


@pytest.mark.parametrize(
    ("parts", "kind", "text"),
    [
        ([("item", [1], None), ("other", [1], None)], KeyError, "unknown; expected one of"),
        ([("item", [1], None), ("item", [50], None)], IndexError, "50"),
        ([("item", [1], None), ("item", [-1], VALUES[:1])], IndexError, "-1"),
        ([("item", [1], None), ("user", [1], VALUES)], ValueError, "expected shape"),
        ([("item", [1], None), ("user", [1], VALUES[:1, :3])], ValueError, "expected shape"),
        ([("item", [1], None), ("user", [1.5], None)], TypeError, "expected .* integers"),
        ([("item", [1], None), ("user", [1], VALUES[:1].astype("f8"))], TypeError, "float32"),
    ],
)
def test_invalid_part_changes_nothing(store, parts, kind, text):
    before = rows_of(store)
    for form in (list, iter):
        with pytest.raises(kind, match=text):
            store.apply(ta.Delta(1, 0, form(parts)))
    check_unchanged(store, before)
    store.table("item").update([1], VALUES[:1])  # no lock is held


@pytest.mark.parametrize("num_rows", [6, 8])
def test_iterator_of_other_length_is_refused(store, num_rows):
    delta = make_delta()
    parts = iter(delta.parts)
    with pytest.raises(TruncatedDeltaError, match=f"expected {num_rows} rows, got 7"):
        store.apply(ta.Delta(1, 0, parts, num_rows))
    assert store.version == 0
    store.apply(ta.Delta(1, 0, iter(delta.parts), 7))


def test_iterator_that_raises_changes_nothing(store):
    def parts():
        yield "item", [1], None
        raise ConnectionResetError("stream")

    before = rows_of(store)
    with pytest.raises(ConnectionResetError):
        store.apply(ta.Delta(1, 0, parts()))
    check_unchanged(store, before)


def test_long_iterator_waits_in_a_file_and_may_reuse_its_array(tmp_path):
    buffer = np.empty((4096, 256), np.float32)

    def parts():
        for first in range(0, 40_960, 4096):
            buffer[:] = np.arange(first, first + 4096, dtype=np.float32)[:, None]
            yield "item", np.arange(first, first + 4096) % 20_000, buffer
        yield "item", [7], None

    with store_of(tmp_path / "new.tier", fast_rows=100) as store:
        store.create_table("item", 20_000, 256)
        assert store.apply(ta.Delta(1, 0, itertools.chain(parts(), parts()))).rows == 81_922
        expected = np.arange(20_000, dtype=np.float32)
        expected += np.where(expected < 960, 40_000, 20_000)
        expected[7] = 0
        assert store.table("item").lookup(np.arange(20_000))[:, 255].tolist() == expected.tolist()
        assert sorted(path.name for path in tmp_path.iterdir())[0] == "new.tier"
    with store_of(tmp_path / "new.tier", "r", fast_rows=100) as store:
        assert store.version == 1
        assert store.table("item").lookup([7, 8])[:, 0].tolist() == [0, 40_008]


def test_versions_of_a_delta_ascend():
    for version, follows in ((0, 0), (3, 3), (2, 3), (1, -1), (1 << 63, 0)):
        with pytest.raises(ValueError, match=r"version|follows"):
            ta.Delta(version, follows, [])


def test_store_in_memory_and_read_only_store_refuse_deltas(store, tmp_path):
    path = tmp_path / "other.tier"
    with store_of(path, fast_rows=20) as other:
        other.create_table("item", 50, 16)
        other.apply(ta.Delta(3, 0, [("item", [1], None)]))
    with store_of(path, "r", fast_rows=20) as other:
        assert other.version == 3
        with pytest.raises(io.UnsupportedOperation, match="apply writes"):
            other.apply(ta.Delta(4, 3, []))
    with ta.TieredStore(slow=ta.NumaMemory(0, spill=True), fast_rows=4) as other:
        other.create_table("item", 50, 16)
        with pytest.raises(ValueError, match="keeps no version; expected one in a file"):
            other.apply(ta.Delta(1, 0, [("item", [1], None)]))
        assert other.version == 0
    store.close()
    with pytest.raises(ValueError, match="the store is closed"):
        store.apply(make_delta())


def test_rows_of_each_dtype_go_through_a_file(tmp_path):
    values = {
        "float32": VALUES,
        "float16": VALUES.astype("f2"),
        "bfloat16": np.arange(48, dtype=np.uint16).reshape(3, 16),
        "float64": VALUES.astype("f8"),
        "int8": np.arange(60, dtype=np.uint8).reshape(3, 20),
        "int4": np.arange(36, dtype=np.uint8).reshape(3, 12),
    }
    with store_of(tmp_path / "new.tier", fast_rows=60) as store:
        for dtype in values:
            store.create_table(dtype, 50, 16, dtype=dtype)
        ta.Delta(1, 0, [(name, [1, 9, 3], rows) for name, rows in values.items()]).write(
            tmp_path / "d"
        )
        store.apply(tmp_path / "d")
        for name, rows in values.items():
            found = store.table(name).lookup([1, 9, 3], raw=True)
            np.testing.assert_array_equal(found, rows.view(np.uint8))
        store.apply(ta.Delta(2, 1, [("int8", [4, 5, 6], VALUES.astype("f8"))]))
        assert abs(store.table("int8").lookup([4, 5, 6]) - VALUES).max() < 0.1


def test_file_without_deltas_keeps_its_format(tmp_path):
    path = tmp_path / "new.tier"
    with store_of(path, fast_rows=20) as store:
        store.create_table("item", 50, 16).update([1], VALUES[:1])
        with pytest.raises(MissingDeltaError):
            store.apply(ta.Delta(2, 1, []))
    assert path.read_bytes()[8] == 2
    with store_of(path, "r+", fast_rows=20) as store:
        store.apply(ta.Delta(1, 0, []))
        assert path.read_bytes()[8] == 5
    assert path.read_bytes()[8] == 5
