"""The demo, on a smaller trace: it must work wherever it is tried."""

import sys

import pytest
from support import run_python

from tieralloc.tools import demo


def test_it_learns_serves_draws_and_cleans_up(tmp_path, capsys):
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


def test_without_torch_it_says_how_to_get_it_and_goes_on_without_recmg(tmp_path):
    code = """
        import sys
        from pathlib import Path
        sys.modules["torch"] = None
        from tieralloc.tools import demo
        demo.run(Path(sys.argv[1]), sys.argv[2], num_samples=300)
    """
    done = run_python(code, tmp_path, tmp_path / "demo.png")
    assert done.returncode == 0, done.stderr
    assert "recmg is left out: " in done.stdout
    assert "pip install 'tieralloc[torch]'" in done.stdout
    assert "all equal" in done.stdout


def counted(fetches):
    """Records of a simulation: on-demand fetches of each policy by capacity."""
    return [
        {"policy": policy, "fast_fraction": fraction, "on_demand_fetches": count}
        for policy, counts in fetches.items()
        for fraction, count in zip(demo.FAST_FRACTIONS, counts, strict=True)
    ]


def test_it_says_where_recmg_wins_and_where_it_does_not():
    records = counted(
        {"lru": (8, 8, 8, 8), "s3fifo": (9, 7, 6, 6), "recmg": (7, 7, 6, 5), "opt": (4, 4, 4, 4)}
    )
    said = " ".join(demo._what_learning_is_worth(records).split())
    assert "fewer on-demand fetches than lru and s3fifo at 1%, 20%;" in said
    assert "another has as few or fewer at 5% (s3fifo), 10% (s3fifo)." in said
    assert "closes 44%, on average" in said


def test_it_says_so_where_recmg_never_wins():
    records = counted({"lru": (5,) * 4, "s3fifo": (6,) * 4, "recmg": (7,) * 4, "opt": (5,) * 4})
    said = " ".join(demo._what_learning_is_worth(records).split())
    assert "fewer on-demand fetches than lru and s3fifo nowhere;" in said
    assert "1% (lru), 5% (lru), 10% (lru), 20% (lru)" in said


@pytest.mark.parametrize(
    ("pauses", "end"),
    [
        (0, "observed and its decisions came 1,235 accesses late on average."),
        (2, "average, and it paused because it cost more CPU time than it saved waiting."),
    ],
)
def test_it_says_what_recmg_took_and_how_late_it_was(pauses, end):
    stats = {
        **{"cpu_seconds": 0.5, "accesses_observed": 250_000, "pauses": pauses},
        "policy_lag": {"mean": 1234.6},
    }
    said = demo._how_learning_kept_pace({"policy_stats": stats})
    assert "it took 2.0 us of CPU per access that it observed" in said
    assert said.endswith(end)


def test_without_matplotlib_it_says_how_to_get_a_plot(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.chdir(tmp_path)
    demo.run(tmp_path, None, num_samples=300)
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_its_plot_goes_elsewhere_where_the_working_directory_is_taken(tmp_path, monkeypatch):
    (tmp_path / demo._PLOT).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", "/elsewhere")
    assert demo._plot_path() == f"/elsewhere/{demo._PLOT}"
