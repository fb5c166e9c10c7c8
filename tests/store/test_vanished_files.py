"""A file that is deleted, moved or replaced while a store has it open."""

import errno
import os
import shutil

import numpy as np
import pytest
from support import numbered_rows

import tieralloc as ta


def delete(path, folder):
    path.unlink()
    return None


def move(path, folder):
    return path.rename(folder / "moved.tier")


def remove_folder(path, folder):
    moved = path.rename(folder / "moved.tier")
    shutil.rmtree(path.parent)
    return moved


def replace(path, folder):
    other = folder / "other"
    other.write_bytes(b"another file")
    other.replace(path)
    return None


def exchange(path, folder):
    moved = path.rename(folder / "moved.tier")
    path.write_bytes(b"another file")
    return moved


FATES = {
    delete: (errno.ENOENT, "was deleted"),
    move: (errno.ENOENT, "was moved"),
    remove_folder: (errno.ENOENT, "was moved"),
    replace: (errno.ESTALE, "another file has this path.*was deleted"),
    exchange: (errno.ESTALE, "another file has this path.*was moved"),
}


@pytest.fixture
def path(make_store, folder):
    inner = folder / "inner"
    inner.mkdir()
    store = make_store(inner / "emb.tier")
    store.create_table("item", 1000, 4).load(numbered_rows(1000, 4))
    store.close()
    return inner / "emb.tier"


@pytest.mark.parametrize("fate", FATES, ids=[fate.__name__ for fate in FATES])
def test_flush_and_close_of_vanished_file_raise(folder, path, fate):
    code, message = FATES[fate]
    store = ta.TieredStore(path, mode="r+", fast_rows=8)
    item = store.table("item")
    item.update([2], np.full((1, 4), 2, np.float32))
    store.flush()
    moved = fate(path, folder)
    for value in (7, 8):
        item.update([3], np.full((1, 4), value, np.float32))
        with pytest.raises(OSError, match=message) as caught:
            store.flush()
        assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert item.lookup([3, 4])[:, 0].tolist() == [8, 4]
    item.update([5], np.full((1, 4), 9, np.float32))
    with pytest.raises(OSError, match=message) as caught:
        store.close()
    assert (caught.value.errno, caught.value.filename) == (code, str(path))
    assert store.closed
    store.close()
    if moved is not None:  # is unlocked and has the updates
        with ta.TieredStore(moved, mode="r+", fast_rows=8) as again:
            assert again.table("item").lookup([3, 5])[:, 0].tolist() == [8, 9]


def test_close_of_retargeted_link_raises(folder, path):
    link = folder / "link"
    link.symlink_to(path)
    store = ta.TieredStore(link, mode="r+", fast_rows=8)
    store.flush()
    link.unlink()
    link.symlink_to("/dev/null")
    with pytest.raises(OSError, match="another file has this path"):
        store.close()


def test_store_of_relative_path_survives_chdir(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with ta.TieredStore(path.name, mode="r+", fast_rows=8) as store:
        monkeypatch.chdir("/")
        store.table("item").update([3], np.full((1, 4), 7, np.float32))
        store.flush()
    with ta.TieredStore(path, mode="r", fast_rows=8) as store:
        assert store.table("item").lookup([3])[0, 0] == 7


def test_read_only_store_of_deleted_file_closes(path):
    with ta.TieredStore(path, mode="r", fast_rows=8) as store:
        os.unlink(path)
        assert store.table("item").lookup([3])[0, 0] == 3
