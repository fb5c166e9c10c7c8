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


def counted(fetches):
    """Records of a simulation: on-demand fetches of each policy by capacity."""
    return [
        {"policy": policy, "fast_fraction": fraction, "on_demand_fetches": count}
        for policy, counts in fetches.items()
        for fraction, count in zip(demo.FAST_FRACTIONS, counts, strict=True)
    ]


def test_compare_learned_lists_won_and_lost_capacities():
    records = counted(
        {"lru": (8, 8, 8, 8), "s3fifo": (9, 7, 6, 6), "recmg": (7, 7, 6, 5), "opt": (4, 4, 4, 4)}
    )
    text = " ".join(demo._compare_learned(records).split())
    assert "fewer on-demand fetches than lru and s3fifo at 1%, 20%;" in text
    assert "another policy has as few or fewer at 5% (s3fifo), 10% (s3fifo)." in text
    assert "closes 44% of the gap between lru and opt" in text


def test_compare_learned_without_wins_says_no_capacity():
    records = counted({"lru": (5,) * 4, "s3fifo": (6,) * 4, "recmg": (7,) * 4, "opt": (5,) * 4})
    text = " ".join(demo._compare_learned(records).split())
    assert "fewer on-demand fetches than lru and s3fifo at no capacity;" in text
    assert "1% (lru), 5% (lru), 10% (lru), 20% (lru)" in text


@pytest.mark.parametrize(
    ("pauses", "end"),
    [
        (0, "observed access, decisions 1,235 accesses late on average."),
        (2, "average. It paused, because it cost more CPU time than it saved in waiting."),
    ],
)
def test_policy_cost_reports_cpu_time_and_lag(pauses, end):
    stats = {
        **{"cpu_seconds": 0.5, "accesses_observed": 250_000, "pauses": pauses},
        "policy_lag": {"mean": 1234.6},
    }
    text = demo._policy_cost({"policy_stats": stats})
    assert ": 2.0 µs of CPU time per observed access" in text
    assert text.endswith(end)


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
