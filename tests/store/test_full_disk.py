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
    """Expect ENOSPC for `path` or its redo log."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        yield
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.split(".log-")[0] == path


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


def test_update_without_room_for_the_log_changes_nothing(disk, make_store):
    store = make_store(fast_rows=64, policy="lru")
    path = path_of(store)
    table = store.create_table("item", 1000, 16)
    table.load(numbered_rows(1000, 16))
    store.flush()
    fill(disk)
    for _ in range(2):
        with full(path):
            table.update([5, 900], [[55.0] * 16] * 2)
    np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, 16))
    store.flush()
    free(disk)
    table.update([5, 900], [[55.0] * 16] * 2)
    assert (table.lookup([5, 900]) == 55).all()
    store.close()
    assert (make_store.open(path).table("item").lookup([5, 900]) == 55).all()


def test_close_without_room_for_pages_keeps_updates(disk, make_store):
    store = make_store(reserve=False, fast_rows=64, policy="lru")
    path = path_of(store)
    table = store.create_table("item", 100_000, 16)
    holes = np.arange(50_000, 50_300)
    table.update(holes, numbered_rows(300, 16))
    fill(disk)
    for _ in range(2):
        store.flush()  # the log has its room
        with full(path):
            store.close()
        assert not store.closed
        np.testing.assert_array_equal(table.lookup(holes), numbered_rows(300, 16))
    stats = store.stats()
    assert stats.updates.dirty_rows == 300
    assert stats.updates.write_back_errors >= 2
    assert os.strerror(errno.ENOSPC) in stats.updates.write_back_error
    free(disk)
    store.close()
    np.testing.assert_array_equal(
        make_store.open(path).table("item").lookup(holes), numbered_rows(300, 16)
    )


@pytest.mark.parametrize("dim", [16, 333, 1100, 5000])
def test_load_on_full_disk_leaves_whole_rows(disk, make_store, dim):
    """Each row is the old one or the new one, of any size: none is torn."""
    store = make_store(reserve=False)
    path = path_of(store)
    rows = MIB // (4 * dim)
    table = store.create_table("item", 3 * rows, dim)
    table.load(np.ones((rows, dim), np.float32), start=0)
    fill(disk)
    with full(path):
        table.load(np.full((3 * rows, dim), 2, np.float32))
    found = table.lookup(np.arange(3 * rows))
    assert (found == found[:, :1]).all()
    assert set(found[:rows, 0]) <= {1, 2}
    assert set(found[rows:, 0]) <= {0, 2}
    free(disk)
    table.load(numbered_rows(3 * rows, dim))
    np.testing.assert_array_equal(table.lookup([rows]), numbered_rows(1, dim, first=rows))
