"""The demo on a smaller trace, with and without torch and matplotlib."""

import os
import re
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
    baselines = {"all in DRAM", "numpy.memmap", "Python LRU"}
    assert {record["policy"] for record in simulated} == {"lru", "s3fifo", "recmg", "opt"}
    assert {record["policy"] for record in served} == {"lru", "s3fifo", "recmg", *baselines}
    assert len(records) == 10 * len(demo.FAST_FRACTIONS)
    assert all(f"{record['miss_ratio']:.4f}" in text for record in records)
    for number in range(1, 6):
        assert f"\n{number}/5 " in text
    served_step = text.partition("\n4/5 ")[2].splitlines()
    assert served_step[1].startswith("At a fast fraction of 5%, ")
    assert "recmg against" in text
    assert re.search(r"all vectors of [\d,]+ calls are equal", text)
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
    assert "calls are equal" in done.stdout


def test_demo_without_matplotlib_names_the_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.chdir(tmp_path)
    demo.run(tmp_path, None, num_samples=300)
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_plot_path_is_a_new_file_unless_forced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo._plot_path(False) == demo._PLOT
    (tmp_path / demo._PLOT).touch()
    assert demo._plot_path(False) == "tieralloc-demo-2.png"
    assert demo._plot_path(True) == demo._PLOT
    monkeypatch.setattr("tieralloc.tools.demo.check_writable", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    assert demo._plot_path(False) == str(tmp_path / "elsewhere" / demo._PLOT)


def refuse(path):
    """Refuse the working directory, as a read-only file system does."""
    if not os.path.isabs(path):
        raise PermissionError(path)
