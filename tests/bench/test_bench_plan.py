"""The study of plans runs, and predicts the miss ratios that a replay counts."""

import json

import pytest

from bench import plan
from bench.scenery.results import from_columns


def test_quick_run_predicts_the_replayed_miss_ratios(tmp_path, capsys):
    assert plan.main(["--quick", "--out", str(tmp_path)]) == 0
    records = from_columns(json.loads((tmp_path / "plan.json").read_text()))
    loads = [(record["fast_fraction"], record.get("rate")) for record in records]
    assert loads == [(0.01, None), (0.05, None), (0.2, None), (0.05, plan.RATE)]
    for record in records[:-1]:
        assert record["predicted"] == record["miss_ratio"]
        assert record["sampled"] == pytest.approx(record["predicted"], abs=0.03)
        assert record["p50_ratio"] > 0
    shown = capsys.readouterr().out
    assert plan.main(["--show", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out in shown
