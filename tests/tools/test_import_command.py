"""``tieralloc import``: a table file with the rows of a checkpoint."""

import numpy as np
import pytest

import tieralloc as ta
from tieralloc.tools import import_rows, stored_rows
from tieralloc.tools.cli.main import main

ROWS = 3000


@pytest.fixture
def tensors(tmp_path):
    """Return the tensors of two files."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    random = np.random.default_rng(0)
    tensors = {
        "w.0": random.random((1000, 24), np.float32),
        "w.1": random.random((2000, 24), np.float32),
        "q": random.integers(0, 256, (ROWS, 128), dtype=np.uint8),
        "scale": random.random((ROWS, 4), np.float32),
    }
    save_file({name: tensors[name] for name in ("w.0", "q")}, tmp_path / "1.safetensors")
    save_file({name: tensors[name] for name in ("w.1", "scale")}, tmp_path / "2.safetensors")
    return tensors


def rows_of(path):
    with ta.TieredStore(path, mode="r", fast_rows=64) as store:
        return {name: t.lookup(np.arange(len(t)), raw=t.dtype == "bytes")
                for name, t in store.tables.items()}  # fmt: skip


def test_all_tensors_are_tables(tensors, tmp_path, capsys):
    out = str(tmp_path / "out.tier")
    assert main(["import", str(tmp_path / "*.safetensors"), "--out", out]) == 0
    found = rows_of(out)
    assert found.keys() == tensors.keys()
    for name, rows in tensors.items():
        np.testing.assert_array_equal(found[name], rows)
    assert "table 'w.1': 2,000 rows of 24 x float32" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "*.safetensors"), "--out", out]) == 1
    assert "--force" in capsys.readouterr().err


def test_chosen_tables_are_joined_and_interleaved(tensors, tmp_path):
    out = str(tmp_path / "out.tier")
    options = ["--table", "w=w.0+w.1", "--interleave", "f8=q,scale"]
    assert main(["import", str(tmp_path / "*.safetensors"), "--out", out, *options]) == 0
    found = rows_of(out)
    np.testing.assert_array_equal(found["w"], np.concatenate([tensors["w.0"], tensors["w.1"]]))
    whole = np.concatenate([tensors["q"], tensors["scale"].view(np.uint8)], axis=1)
    np.testing.assert_array_equal(found["f8"], whole)


def test_interleaved_rows_are_decoded(tensors, tmp_path):
    out = str(tmp_path / "out.tier")
    options = ["--interleave", "f8=q,scale", "--dtype", "float8_e4m3_float32_32"]
    files = str(tmp_path / "*.safetensors")
    assert main(["import", files, "--out", out, *options, "--embedding-dim", "128"]) == 0
    with ta.TieredStore(out, mode="r", fast_rows=64) as store:
        table = store.table("f8")
        assert table.lookup([1]).shape == (1, 128)
        raw = table.lookup(np.arange(ROWS), raw=True)
    np.testing.assert_array_equal(raw[:, :128], tensors["q"])


def test_interrupted_import_goes_on(tensors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(import_rows, "_SEGMENT_BYTES", 24 * 4 * 300)
    monkeypatch.setattr(stored_rows, "_BYTES", 24 * 4 * 100)
    out, files = str(tmp_path / "out.tier"), str(tmp_path / "*.safetensors")
    seen = []
    original = import_rows.stored_rows

    def failing(table, first, last, report):
        seen.append((table.name, first))
        if len(seen) == 8:
            raise OSError(5, "disk")
        return original(table, first, last, report)

    monkeypatch.setattr(import_rows, "stored_rows", failing)
    assert main(["import", files, "--out", out]) == 1
    assert main(["import", files, "--out", out, "--table", "w=w.0+w.1"]) == 2
    assert "of an interrupted import of other files or tables" in capsys.readouterr().err
    assert main(["import", files, "--out", out]) == 0
    assert seen.count(seen[7]) == 2
    assert all(seen.count(each) == 1 for each in seen if each != seen[7])
    found = rows_of(out)
    for name, rows in tensors.items():
        np.testing.assert_array_equal(found[name], rows)
    assert not (tmp_path / "out.tier.import").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "w"], "--table: expected NAME=TENSOR, got 'w'"),
        (["--dtype", "float8_e4m3_float32_32"], "no effect without --interleave"),
        (["--table", "w=none"], "no tensor 'none'"),
        (["--interleave", "f8=q,w.0"], "expected parts of 3000 rows, got 1000"),
    ],
)
def test_invalid_options_are_named(tensors, tmp_path, capsys, options, message):
    out = tmp_path / "out.tier"
    assert main(["import", str(tmp_path / "*.safetensors"), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
