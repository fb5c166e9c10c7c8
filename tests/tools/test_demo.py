"""The demo on a smaller trace, with and without torch and matplotlib."""

import sys

import pytest
from support import run_python

from tieralloc.tools import demo


def test_demo_prints_plots_and_removes_its_files(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    (tmp_path / "disk").mkdir()
    records = demo.run(tmp_path / "disk", str(tmp_path / "demo.png"), num_samples=1000)
    text = capsys.readouterr().out
    simulated = [record for record in records if "latency_us" not in record]
    served = [record for record in records if "latency_us" in record]
    assert {record["policy"] for record in simulated} == {"lru", "s3fifo", "recmg", "opt"}
    assert {record["policy"] for record in served} == {"lru", "s3fifo", "recmg"}
    assert len(records) == 7 * len(demo.FAST_FRACTIONS)
    assert all(f"{record['miss_ratio']:.4f}" in text for record in simulated)
    assert all(f"{record['on_demand_fetches']:,}" in text for record in served)
    assert "all equal" in text
    assert text.rstrip().endswith(f"Plot: {tmp_path / 'demo.png'}")
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert not list((tmp_path / "disk").iterdir())


def test_demo_without_torch_skips_recmg(tmp_path):
    code = """
        import sys
        from pathlib import Path
        sys.modules["torch"] = None
        from tieralloc.tools import demo
        demo.run(Path(sys.argv[1]), sys.argv[2], num_samples=300)
    """
    done = run_python(code, tmp_path, tmp_path / "demo.png")
    assert done.returncode == 0, done.stderr
    assert "recmg is skipped: " in done.stdout
    assert "pip install 'tieralloc[torch]'" in done.stdout
    assert "all equal" in done.stdout


def test_demo_without_matplotlib_names_the_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.chdir(tmp_path)
    demo.run(tmp_path, None, num_samples=300)
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_plot_path_unwritable_directory_uses_temporary(tmp_path, monkeypatch):
    (tmp_path / demo._PLOT).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", "/elsewhere")
    assert demo._plot_path() == f"/elsewhere/{demo._PLOT}"
