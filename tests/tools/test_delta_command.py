"""``tieralloc delta``: a store at OLD that applies the delta has the rows of NEW."""

import re

import numpy as np
import pytest
from support import store_of

import tieralloc as ta
from tieralloc.tools.cli.main import main

DIMS = {"item": 4, "user": 300}
ROWS = 20_000


def random_rows(rng, dim):
    rows = rng.random((ROWS, dim), dtype=np.float32)
    rows[rng.random(ROWS) < 0.2] = 0
    return rows


@pytest.fixture
def models():
    """Return the rows of two versions of a model."""
    rng = np.random.default_rng(1)
    old = {name: random_rows(rng, dim) for name, dim in DIMS.items()}
    new = {}
    for name, rows in old.items():
        other = random_rows(rng, rows.shape[1])
        new[name] = np.where(rng.random((ROWS, 1)) < 0.1, other, rows)
    new["item"][5, 1] = np.nan
    old["item"][6] = new["item"][6] = np.nan
    return old, new


def write(kind, path, model):
    path = path.with_suffix(f".{kind}")
    if kind == "npz":
        np.savez(path, **model)
    elif kind == "safetensors":
        torch_like = {f"{name}.weight": rows for name, rows in model.items()}
        pytest.importorskip("safetensors.numpy").save_file(torch_like, path)
    else:
        with store_of(path, fast_rows=8) as store:
            for name, rows in model.items():
                store.create_table(name, *rows.shape).load(rows)
    return str(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [("tier", "tier"), ("npz", "npz"), ("safetensors", "safetensors"), ("tier", "npz"),
     ("safetensors", "tier")],
)  # fmt: skip
def test_delta_of_two_checkpoints_leads_from_one_to_the_other(models, tmp_path, capsys, one, other):
    old, new = models
    paths = write(one, tmp_path / "old", old), write(other, tmp_path / "new", new)
    out = str(tmp_path / "d")
    assert main(["delta", *paths, "--out", out]) == 0
    changed = deleted = 0
    for name, rows in new.items():
        is_changed = (rows.view(np.uint32) != old[name].view(np.uint32)).any(axis=1)
        deleted += int((is_changed & ~rows.any(axis=1)).sum())
        changed += int((is_changed & rows.any(axis=1)).sum())
    text = f"{out}: from version 0 to 1: {changed:,} rows changed, {deleted:,} deleted"
    assert capsys.readouterr().out.strip() == text
    served = write("tier", tmp_path / "served", old)
    with store_of(served, "r+", fast_rows=100) as store:
        assert store.apply(out).rows == changed + deleted
        for name, rows in new.items():
            found = store.table(name).lookup(np.arange(ROWS))
            np.testing.assert_array_equal(found.view(np.uint32), rows.view(np.uint32))
    assert main(["delta", served, paths[1], "--out", out, "--force"]) == 0
    assert "from version 1 to 2: 0 rows changed, 0 deleted" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["int4", "float8_e4m3_float32_32"])
def test_delta_of_decoded_tables_has_their_bytes(tmp_path, dtype):
    rng = np.random.default_rng(2)
    paths = [tmp_path / "old.tier", tmp_path / "new.tier"]
    for path in paths:
        with store_of(path, fast_rows=8) as store:
            table = store.create_table("item", 100, 16, dtype=dtype)
            table.load(rng.integers(0, 64, (100, table.row_bytes), dtype=np.uint8))
            expected = table.lookup(np.arange(100), raw=True)
    out = str(tmp_path / "d")
    assert main(["delta", *map(str, paths), "--out", out, "--follows", "3", "--version", "9"]) == 0
    with store_of(paths[0], "r+", fast_rows=8) as store:
        store.apply(ta.Delta(3, 0, []))
        store.apply(out)
        assert store.version == 9
        np.testing.assert_array_equal(
            store.table("item").lookup(np.arange(100), raw=True), expected
        )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda model: model.pop("item"), "expected the tables of .*'item', 'user'; got 'user'"),
        (lambda model: model.update(more=model["item"]), "got 'item', 'more', 'user'"),
        (
            lambda model: model.update(item=model["item"][1:]),
            "expected 20000 x 4 .*, got 1999",
        ),
        (lambda model: model.update(item=model["item"].astype("f8")), "got 20000 x 4 float64"),
        (
            lambda model: model.update(item=model["item"][0]),
            r"expected rows of a table, got shape .4,",
        ),
    ],
)
def test_checkpoints_of_other_tables_are_refused(models, tmp_path, capsys, change, text):
    old, new = models
    before = write("npz", tmp_path / "old", old)
    change(new)
    after = write("npz", tmp_path / "new", new)
    assert main(["delta", before, after, "--out", str(tmp_path / "d")]) == 2
    err = capsys.readouterr().err
    assert re.search(text, err), err
    assert not (tmp_path / "d").exists()


def test_invalid_files_and_versions_are_refused(models, tmp_path, capsys):
    path = write("npz", tmp_path / "old", models[0])
    out = str(tmp_path / "d")
    assert main(["delta", path, path, "--out", out, "--follows", "3", "--version", "3"]) == 2
    assert "version: expected 4 to" in capsys.readouterr().err
    (tmp_path / "bad.npz").write_bytes(b"bad")
    assert main(["delta", path, str(tmp_path / "bad.npz"), "--out", out]) == 2
    assert "bad.npz: invalid .npz file" in capsys.readouterr().err
    (tmp_path / "d").touch()
    assert main(["delta", path, path, "--out", out]) == 1
    assert "exists already" in capsys.readouterr().err
