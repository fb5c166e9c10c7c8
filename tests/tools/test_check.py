"""``tieralloc check`` and ``tieralloc upgrade`` on real files."""

import numpy as np
import pytest
from support import MIB, file_of_version_1, numbered_rows

import tieralloc as ta
from tieralloc.tools.cli.main import main

DIMS = {"item": 4, "user": 300, "wide": 1100}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "emb.tier"
    with ta.TieredStore(path, mode="w", fast_rows=8) as store:
        for name, dim in DIMS.items():
            store.create_table(name, 500, dim).load(numbered_rows(500, dim))
    return path


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 16]))


def test_check_of_valid_file_reports_no_damage(path, capsys):
    before = path.read_bytes()
    assert main(["check", str(path)]) == 0
    assert "3 tables, no damage" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_check_names_rows_of_each_damaged_page(path, capsys):
    item, user = 2 * MIB, 2 * MIB + 8 * 4096
    flip(path, item + 4096 + 7)
    flip(path, user + 5 * 4096 + 4095)
    assert main(["check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{path}: damaged: table 'item', rows 63 to 125",
        f"{path}: damaged: table 'user', rows 15 to 17",
    ]
    assert "66 rows are damaged; use --repair-from" in err


def arrays(kind, folder):
    values = {name: numbered_rows(500, dim) for name, dim in DIMS.items()}
    file = folder / f"checkpoint.{kind}"
    if kind == "npz":
        np.savez(file, **values)
    elif kind == "tier":
        with ta.TieredStore(file, mode="w", fast_rows=8) as store:
            for name, rows in values.items():
                store.create_table(name, *rows.shape).load(rows)
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(
            {f"model.{name}.weight": rows for name, rows in values.items()}, file
        )
    else:
        torch = pytest.importorskip("torch")
        torch.save({f"bags.{name}.weight": torch.tensor(v) for name, v in values.items()}, file)
    return file


@pytest.mark.parametrize("kind", ["npz", "tier", "safetensors", "pt"])
def test_repair_replaces_damaged_rows_and_keeps_updates(path, tmp_path, capsys, kind):
    checkpoint = arrays(kind, tmp_path)
    updated = np.full((1, 4), -5, np.float32)
    flip(path, 2 * MIB + 4096)
    with ta.TieredStore(path, fast_rows=8) as store:
        store.table("item").update([70], updated)
    assert main(["check", str(path), "--repair-from", str(checkpoint)]) == 0
    assert "rows 63 to 125 (repaired)" in capsys.readouterr().out
    assert main(["check", str(path)]) == 0
    expected = numbered_rows(500, 4)
    expected[70] = updated
    with ta.TieredStore(path, mode="r", fast_rows=8) as store:
        np.testing.assert_array_equal(store.table("item").lookup(np.arange(500)), expected)


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3_ue8m0_32"])
def test_repair_copies_the_bytes_of_decoded_rows(tmp_path, dtype):
    paths = [tmp_path / "a.tier", tmp_path / "b.tier"]
    for path in paths:
        with ta.TieredStore(path, mode="w", fast_rows=8) as store:
            table = store.create_table("item", 500, 16, dtype)
            rows = np.random.default_rng(0).integers(0, 64, (500, table.row_bytes), dtype=np.uint8)
            table.load(rows)
    flip(paths[0], 2 * MIB)
    assert main(["check", str(paths[0]), "--repair-from", str(paths[1])]) == 0
    with ta.TieredStore(paths[0], mode="r", fast_rows=8) as store:
        table = store.table("item")
        np.testing.assert_array_equal(table.lookup(np.arange(500), raw=True), rows)


def test_repair_from_checkpoint_without_table_raises(path, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", user=numbered_rows(500, 300))
    flip(path, 2 * MIB)
    assert main(["check", str(path), "--repair-from", str(tmp_path / "other.npz")]) == 2
    assert "expected one array of table 'item', got none" in capsys.readouterr().err


def test_upgrade_converts_version_1_and_keeps_rows(tmp_path, capsys):
    path = tmp_path / "old.tier"
    file_of_version_1(path)
    path.chmod(0o640)
    assert main(["check", str(path)]) == 2
    assert "tieralloc upgrade" in capsys.readouterr().err
    for line in ("converted to format version 2", "has format version 2 already"):
        assert main(["upgrade", str(path)]) == 0
        assert line in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["old.tier"]
    assert path.stat().st_mode & 0o777 == 0o640
    with ta.TieredStore(path, fast_rows=8) as store:
        table = store.table("item")
        np.testing.assert_array_equal(table.lookup(np.arange(1000)), numbered_rows(1000, 4))
