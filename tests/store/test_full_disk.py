"""A disk that becomes full under a store, and later has space again."""

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
from support import StoreMaker, numbered_rows, path_of

import tieralloc as ta

MIB = 1 << 20


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def mounted(*arguments, at):
    at.mkdir()
    try:
        run("mount", *arguments, str(at))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small disk here: {getattr(error, 'stderr', None) or error}")
    try:
        yield at
    finally:
        run("umount", "--lazy", str(at))


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk that is small enough to be filled")
    if request.param == "tmpfs":
        with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", at=tmp_path / "disk") as path:
            yield path
        return
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4 here")
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 16 * MIB)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
    with mounted("-o", "loop", str(image), at=tmp_path / "disk") as path:
        yield path


@pytest.fixture
def make_store(disk):
    with StoreMaker(disk) as maker:
        yield maker
        free(disk)


def fill(disk):
    """Fill all free blocks."""
    with open(disk / "filler", "wb", buffering=0) as filler:
        size = 0
        for step in (MIB, 64 << 10, 4 << 10):
            while True:
                try:
                    os.posix_fallocate(filler.fileno(), size, step)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        break
                    raise
                size += step


def free(disk):
    (disk / "filler").unlink(missing_ok=True)


@contextmanager
def full(path):
    """Expect ENOSPC for `path`."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        yield
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, path)


def size_of(path):
    status = os.stat(path)
    return status.st_size, status.st_blocks


def test_store_on_full_disk_raises_and_leaves_no_file(disk):
    fill(disk)
    for reserve in (True, False):
        path = str(disk / "new.tier")
        with full(path):
            ta.TieredStore(slow=ta.File(path, reserve=reserve), fast_rows=8)
        assert not (disk / "new.tier").exists()


def test_create_table_on_full_disk_leaves_file_unchanged(make_store):
    store = make_store()
    path = path_of(store)
    table = store.create_table("item", 1000, 16)
    table.load(numbered_rows(1000, 16))
    table.update([3], [[7.0] * 16])
    before = size_of(path)
    with full(path):
        store.create_table("large", 1 << 20, 16)
    assert size_of(path) == before
    assert list(store.tables) == ["item"]
    expected = numbered_rows(1000, 16)
    expected[3] = 7
    np.testing.assert_array_equal(table.lookup(np.arange(1000)), expected)
    store.create_table("small", 100, 16).load(numbered_rows(100, 16))
    store.close()
    again = make_store.open(path)
    assert list(again.tables) == ["item", "small"]
    np.testing.assert_array_equal(again.table("item").lookup(np.arange(1000)), expected)
    np.testing.assert_array_equal(again.table("small").lookup([99]), numbered_rows(1, 16, first=99))


def test_update_on_full_disk_stays_until_written_back(disk, make_store):
    store = make_store(reserve=False, fast_rows=64, policy="lru")
    path = path_of(store)
    table = store.create_table("item", 100_000, 16)
    table.load(numbered_rows(64, 16), start=0)
    store.flush()
    fill(disk)

    holes = np.arange(50_000, 50_030)
    table.update(holes, numbered_rows(30, 16))
    table.update([5], [[55.0] * 16])
    for refused in (store.flush, store.close, store.flush):
        with full(path):
            refused()
    stats = store.stats()
    assert not store.closed
    # Rows whose block is allocated are written back.
    assert stats.fast_tier.dirty_rows == 30
    assert stats.updates.write_back_errors >= 30
    assert os.strerror(errno.ENOSPC) in stats.updates.write_back_error
    np.testing.assert_array_equal(table.lookup(holes), numbered_rows(30, 16))

    # More dirty rows than the fast tier and its spare slots hold: an update raises, and the rows
    # before it have their new value.
    more = np.arange(60_000, 60_200)
    done = 0
    with full(path):
        for row in more:
            table.update([row], numbered_rows(1, 16, first=row))
            done += 1
    assert 0 < done < 100
    np.testing.assert_array_equal(table.lookup(holes), numbered_rows(30, 16))
    np.testing.assert_array_equal(table.lookup(more[:done]), numbered_rows(done, 16, first=60_000))
    np.testing.assert_array_equal(table.lookup(np.arange(5)), numbered_rows(5, 16))
    with full(path):
        table.pin(np.arange(20_000, 20_060))
    assert store.stats().fast_tier.pinned_rows == 0

    free(disk)
    table.update(more, numbered_rows(200, 16, first=60_000))
    store.flush()
    assert store.stats().fast_tier.dirty_rows == 0
    assert store.stats().updates.write_back_error == ""
    store.close()
    table = make_store.open(path).table("item")
    np.testing.assert_array_equal(table.lookup(holes), numbered_rows(30, 16))
    np.testing.assert_array_equal(table.lookup(more), numbered_rows(200, 16, first=60_000))
    assert (table.lookup([5]) == 55).all()


def test_load_on_full_disk_raises(disk, make_store):
    store = make_store(reserve=False)
    path = path_of(store)
    table = store.create_table("item", 100_000, 16)
    fill(disk)
    with full(path):
        table.load(numbered_rows(100_000, 16))
    free(disk)
    table.load(numbered_rows(100_000, 16))
    np.testing.assert_array_equal(table.lookup([99_999]), numbered_rows(1, 16, first=99_999))
