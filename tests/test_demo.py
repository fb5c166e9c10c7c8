"""The demo, on a smaller trace: it must work wherever it is tried."""

import sys

import pytest

from tieralloc import demo


def test_it_serves_draws_and_cleans_up(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "disk").mkdir()
    records = demo.run(tmp_path / "disk", str(tmp_path / "demo.png"), num_samples=1000)
    text = capsys.readouterr().out
    assert {record["policy"] for record in records} == {"lru", "s3fifo", "opt"}
    assert len(records) == 3 * len(demo.FAST_FRACTIONS)
    assert all(f"{record['on_demand_fetches']:,}" in text for record in records)
    assert "all equal" in text
    assert text.rstrip().endswith(f"Plot: {tmp_path / 'demo.png'}")
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert not list((tmp_path / "disk").iterdir())


def test_without_matplotlib_it_says_how_to_get_a_plot(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.chdir(tmp_path)
    demo.run(tmp_path, None, num_samples=1000)
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_its_plot_goes_elsewhere_where_the_working_directory_is_taken(tmp_path, monkeypatch):
    (tmp_path / demo._PLOT).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", "/elsewhere")
    assert demo._plot_path() == f"/elsewhere/{demo._PLOT}"
