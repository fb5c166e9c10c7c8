"""Missing, foreign, damaged and truncated files: errors that leave the file unchanged."""

import errno
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import StoreMaker, file_of_version_1, numbered_rows, path_of, real_folder

import tieralloc as ta

MIB = 1 << 20


@contextmanager
def unchanged(path):
    with open(path, "rb") as file:
        before = file.read()
    yield
    with open(path, "rb") as file:
        assert file.read() == before


def test_open_missing_file_or_folder_raises(make_store, folder):
    with pytest.raises(FileNotFoundError, match="cannot open the slow tier: No such file"):
        make_store.open(folder / "none.tier")
    with pytest.raises(IsADirectoryError, match="cannot open the slow tier: Is a directory"):
        make_store.open(folder)
    with pytest.raises(FileNotFoundError, match="cannot create the slow tier: No such file"):
        make_store(folder / "none" / "new.tier")
    with pytest.raises(IsADirectoryError, match="cannot open the slow tier: Is a directory"):
        make_store(folder)


@pytest.mark.parametrize("lost", [1, 4096, 60_000])
def test_open_truncated_file_raises(make_store, closed_path, lost):
    size = os.stat(closed_path).st_size
    assert size == 2 * MIB + 16 * 4096
    os.truncate(closed_path, size - lost)
    with (
        unchanged(closed_path),
        pytest.raises(ValueError, match=r"truncated: \d+ bytes, but table 'item'"),
    ):
        make_store.open(closed_path)
    os.truncate(closed_path, size)
    assert make_store.open(closed_path).table("item").lookup([0])[0, 0] == 0


# Damaged headers

HEADER = struct.Struct("<8sIIQQQQQQI44x")
RECORD = struct.Struct("<192sQQIII36x")
SUPERBLOCKS = (0, MIB)


def crc32c(data):
    """CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def superblock(tables, version=2, generation=9, store_id=77, logs=(0, 0, 0, 0)):
    """Return a superblock of tables (name, rows, offset, dim, dtype, stride)."""
    records = b"".join(RECORD.pack(*table) for table in tables)
    fields = (b"TIERALOC", version, len(tables), generation, store_id, *logs)
    return HEADER.pack(*fields, crc32c(HEADER.pack(*fields, 0) + records)) + records


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_file_has_documented_format(closed_path):
    """Two superblocks, at 0 and at 1 MiB, and pages from 2 MiB on."""
    with open(closed_path, "rb") as file:
        content = file.read()
    generation, store_id = HEADER.unpack_from(content)[3:5]
    expected = superblock(
        [(b"item", 1000, 2 * MIB, 4, 1, 64)], generation=generation, store_id=store_id
    )
    for at in SUPERBLOCKS:
        assert content[at : at + len(expected)] == expected
    pages = [content[at : at + 4096] for at in range(2 * MIB, len(content), 4096)]
    assert len(pages) == 16  # of 63 rows each
    for number, page in enumerate(pages, start=2 * MIB // 4096):
        assert struct.unpack("<QI", page[-16:-4])[0] == number
        assert struct.unpack("<I", page[-4:])[0] == crc32c(page[:-4])
    rows = b"".join(page[: 63 * 64] for page in pages)
    rows = np.frombuffer(rows, np.float32).reshape(-1, 16)[:1000]
    np.testing.assert_array_equal(rows[:, :4], numbered_rows(1000, 4))
    assert not rows[:, 4:].any()


def test_file_of_version_1_can_be_read(make_store, folder):
    path = folder / "old.tier"
    file_of_version_1(path)
    for mode in ("a", "r+"):
        with unchanged(path), pytest.raises(ValueError, match=r"version 1 .*tieralloc upgrade"):
            ta.TieredStore(path, mode=mode, fast_rows=8)
    with unchanged(path), ta.TieredStore(path, mode="r", fast_rows=8) as store:
        table = store.table("item")
        np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, 4))
        store.flush()


@pytest.mark.parametrize("at", [0, 100, 4079, 4080, 4092, 4095])
def test_lookup_of_damaged_page_raises_and_other_rows_are_served(make_store, closed_path, at):
    with open(closed_path, "r+b") as file:
        file.seek(2 * MIB + 4096 + at)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    store = make_store.open(closed_path)
    table = store.table("item")
    message = r"cannot read table 'item', rows 63 to 125 at offset \d+ .*: the page is damaged"
    for rows in ([63], [0, 125]):
        with pytest.raises(OSError, match=message) as caught:
            table.lookup(rows)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, closed_path)
    others = np.r_[:63, 126:1000]
    np.testing.assert_array_equal(table.lookup(others), numbered_rows(1000, 4)[others])
    assert store.stats().updates.page_errors >= 2
    # An updated row stays in the log, because its page cannot be written.
    table.update([64], numbered_rows(1, 4, first=64))
    store.close()
    store = make_store.open(closed_path)
    table = store.table("item")
    np.testing.assert_array_equal(table.lookup([64]), numbered_rows(1, 4, first=64))
    with pytest.raises(OSError, match=message):
        table.lookup([65])
    # New values of all rows of the page replace it.
    table.update(np.r_[63, 65:126], numbered_rows(126, 4)[np.r_[63, 65:126]])
    store.close()
    assert not os.path.exists(closed_path + ".log-2")
    table = make_store.open(closed_path).table("item")
    np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, 4))


@settings(max_examples=50)
@given(
    which=st.sampled_from(SUPERBLOCKS),
    at=st.integers(0, HEADER.size + 2 * RECORD.size - 1),
    bit=st.integers(0, 7),
)
def test_file_with_one_damaged_superblock_loses_nothing(which, at, bit):
    with real_folder() as folder, StoreMaker(folder) as make:
        store = make(reserve=False)
        for name in ("a", "b"):
            store.create_table(name, 10, 4).load(numbered_rows(10, 4))
        path = path_of(store)
        store.close()
        with open(path, "rb") as file:
            file.seek(which + at)
            flipped = file.read(1)[0] ^ (1 << bit)
        overwrite(path, which + at, bytes([flipped]))
        store = make.open(path, reserve=False)
        for name in ("a", "b"):
            table = store.table(name)
            np.testing.assert_array_equal(table.lookup(np.arange(10)), numbered_rows(10, 4))
        store.create_table("c", 10, 4)  # rewrites both superblocks
        store.close()
        overwrite(path, MIB - which, b"damage" * 40)
        assert list(make.open(path).tables) == ["a", "b", "c"]


def test_open_file_of_newer_version_raises(make_store, closed_path):
    for at in SUPERBLOCKS:
        overwrite(closed_path, at, superblock([], version=6))
    message = (
        rf"{closed_path}: file format version 6, this tieralloc reads up to version 5; upgrade"
    )
    with unchanged(closed_path), pytest.raises(ValueError, match=message):
        make_store.open(closed_path)


def test_open_file_with_later_dtype_names_the_table(make_store, closed_path):
    known = (b"a", 10, 2 * MIB, 4, 1, 64)
    overwrite(closed_path, 0, superblock([known]))
    later = superblock([known, (b"new", 10, 3 * MIB, 4, 40, 99)], generation=10)
    overwrite(closed_path, MIB, later)
    message = f"{closed_path}: table 'new' has rows of dtype number 40, .* up to 13; upgrade"
    with unchanged(closed_path), pytest.raises(ValueError, match=message):
        make_store.open(closed_path)


FORGED = {
    "no name": [(b"", 10, 2 * MIB, 4, 1, 64)],
    "no rows": [(b"a", 0, 2 * MIB, 4, 1, 64)],
    "too many rows": [(b"a", 1 << 60, 2 * MIB, 4, 1, 64)],
    "no dim": [(b"a", 10, 2 * MIB, 0, 1, 64)],
    "no dtype": [(b"a", 10, 2 * MIB, 4, 0, 64)],
    "padded int8 rows": [(b"a", 10, 2 * MIB, 4, 5, 64)],
    "no stride": [(b"a", 10, 2 * MIB, 4, 1, 0)],
    "another stride": [(b"a", 10, 2 * MIB, 4, 1, 128)],
    "rows in the header": [(b"a", 10, MIB, 4, 1, 64)],
    "offset beyond any file": [(b"a", 10, 1 << 63, 4, 1, 64)],
    "repeated name": [(b"a", 10, 2 * MIB, 4, 1, 64), (b"a", 10, 3 * MIB, 4, 1, 64)],
    "overlapping rows": [(b"a", 100, 2 * MIB, 4, 1, 64), (b"b", 10, 2 * MIB + 4096, 4, 1, 64)],
    "rows beside pages": [(b"a", 10, 2 * MIB + 64, 4, 1, 64)],
}


@pytest.mark.parametrize("tables", FORGED.values(), ids=FORGED)
def test_open_invalid_tables_with_valid_checksum_raises(make_store, closed_path, tables):
    for at in SUPERBLOCKS:
        overwrite(closed_path, at, superblock(tables))
    with unchanged(closed_path), pytest.raises(ValueError, match="its header is damaged"):
        make_store.open(closed_path)


# Truncated while open


@pytest.fixture
def cut(make_store):
    """Return a store whose file was cut within `item`, the table and its first lost row."""
    store = make_store(fast_rows=4)
    table = store.create_table("item", 1000, 16)
    table.load(numbered_rows(1000, 16))
    store.create_table("second", 10, 16)
    path = path_of(store)
    # The last 8 pages, of 63 rows each, and the other table's only page.
    os.truncate(path, os.stat(path).st_size - 9 * 4096)
    first_lost = (os.stat(path).st_size - 2 * MIB) // 4096 * 63
    assert 0 < first_lost < 1000
    return store, table, first_lost


def test_lookup_beyond_cut_raises_and_other_rows_are_served(cut):
    store, table, lost = cut
    for rows in ([lost], [lost - 1, lost], [0, 999]):
        with pytest.raises(OSError, match="cut short") as caught:
            table.lookup(rows)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == path_of(store)
    with pytest.raises(OSError, match="cut short"):
        store.table("second").lookup([0])
    np.testing.assert_array_equal(table.lookup(np.arange(lost)), numbered_rows(lost, 16))
    table.prefetch([lost, lost - 1])  # a hint without effect
    np.testing.assert_array_equal(table.lookup([lost - 1]), numbered_rows(1, 16, first=lost - 1))


def test_stats_after_failed_calls_are_consistent(cut):
    store, table, lost = cut
    table.lookup([1, 1, 2])
    for _ in range(3):
        with pytest.raises(OSError, match="cut short"):
            table.lookup([1, 3, lost])
    stats = store.stats()
    assert stats.calls == 1
    assert stats.lookups == stats.hits + stats.on_demand_fetches
    assert stats.hits == 1


def test_cut_file_is_never_extended(cut):
    store, table, _ = cut
    path = path_of(store)
    size = os.stat(path).st_size
    new = np.full((1, 16), -1, np.float32)
    os.truncate(path, size + 9 * 4096)
    table.update([4], new)
    os.truncate(path, size)
    for refused in (
        store.flush,
        store.close,
        lambda: table.update([5], new),
        lambda: table.load(np.zeros((1, 16), np.float32), start=999),
        lambda: table.load(np.zeros((1, 16), np.float32), start=0),
        lambda: store.create_table("more", 10, 4),
    ):
        with pytest.raises(OSError, match=f"cut short to {size} bytes of") as caught:
            refused()
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)
    assert os.stat(path).st_size == size
    assert not store.closed
    np.testing.assert_array_equal(table.lookup([5]), numbered_rows(1, 16, first=5))
    # Restore the length, so that the store can close.
    os.truncate(path, size + 9 * 4096)
    store.close()


def test_lookup_during_failing_calls_serves_readable_row(cut):
    """The failing call reads both rows at once, and the other call may wait for that read."""
    _, table, lost = cut
    stop = threading.Event()

    def fail():
        while not stop.is_set():
            with pytest.raises(OSError, match="cut short"):
                table.lookup([lost - 1, lost])

    with ThreadPoolExecutor(2) as threads:
        failing = [threads.submit(fail) for _ in range(2)]
        try:
            for n in range(2000):
                assert table.lookup([lost - 1])[0, 0] == lost - 1
                table.lookup(4 * n % 400 + np.arange(4))  # evict row `lost - 1`
        finally:
            stop.set()
        for thread in failing:
            thread.result()
