"""Files of a checkpoint that others change while it is served: errors, never a signal."""

import errno
import os
import shutil

import numpy as np
import pytest
from checkpoint_support import ENGINES, make_shards, store_of


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def truncate_all(path):
    os.truncate(path, 0)


def extend(path):
    os.truncate(path, path.stat().st_size + 1)


def delete(path):
    path.unlink()


def replace(path):
    other = path.with_suffix(".new")
    shutil.copy2(path, other)
    other.replace(path)


def write(path):
    with path.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(bytes(20))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


CHANGES = {
    truncate: (errno.EIO, "the file was cut short"),
    truncate_all: (errno.EIO, "the file was cut short"),
    extend: (errno.ESTALE, "was deleted, replaced or written since the store opened it"),
    delete: (errno.ESTALE, "was deleted, replaced or written since the store opened it"),
    replace: (errno.ESTALE, "was deleted, replaced or written since the store opened it"),
    write: (errno.ESTALE, "was deleted, replaced or written since the store opened it"),
}


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
@pytest.mark.parametrize("engine", ENGINES)
def test_changed_file_is_an_error_and_other_tables_go_on(folder, engine, change):
    expected = make_shards(folder)
    path = folder / "model-00002-of-00003.safetensors"
    code, message = CHANGES[change]
    tables = {"ngram": ["ngram.0", "ngram.1", "ngram.2"], "f16": "f16", "f64": "f64"}
    with store_of(folder / "*.safetensors", tables=tables, engine=engine) as store:
        np.testing.assert_array_equal(store.table("f16").lookup([3]), expected["f16"][[3]])
        change(path)
        for rows in ([7], [400, 8, 20]):
            with pytest.raises(
                OSError, match=rf"table 'f16', row \d+ at offset .*{message}"
            ) as caught:
                store.table("f16").lookup(rows)
            assert (caught.value.errno, caught.value.filename) == (code, str(path))
        with pytest.raises(OSError, match=r"table 'ngram', row 10\d\d at offset"):
            store.table("ngram").lookup([3, 1001, 1020, 1100])
        np.testing.assert_array_equal(store.table("f16").lookup([3]), expected["f16"][[3]])
        np.testing.assert_array_equal(
            store.table("ngram").lookup([3, 999, 1037]),
            np.concatenate([expected["ngram.0"][[3, 999]], expected["ngram.2"][:1]]),
        )
        order = np.random.default_rng(0).permutation(300)
        np.testing.assert_array_equal(store.table("f64").lookup(order), expected["f64"][order])
        store.stats()


def test_file_that_changed_before_the_first_lookup_leaves_no_resident_table(folder):
    expected = make_shards(folder)
    path = folder / "model-00001-of-00003.safetensors"
    with store_of(folder / "*.safetensors") as store:
        truncate(path)
        with pytest.raises(OSError, match="the file was cut short"):
            store.table("f32").lookup([0])
        np.testing.assert_array_equal(store.table("i8").lookup([1]), expected["i8"][[1]])
